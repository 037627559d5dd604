//! One webhook of a configuration, ready to be asked.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apimachinery::labels::SelectorError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use component_base::webhook::{Address, Client, Resolver, Target};
use serde_json::Value;

use super::review::Version;
use crate::conditions::MatchConditions;
use crate::matching::{Rule, Selectors};
use crate::object::{items, text};

/// The port of a Service where none is said.
const HTTPS_PORT: u64 = 443;
/// How long an answer is waited for where nothing is said, in seconds.
const TIMEOUT: u64 = 10;

/// A webhook.
pub struct Hook {
    /// The configuration, the name, and the place among those of the same name.
    pub id: String,
    pub name: String,
    pub(super) rules: Vec<Rule>,
    /// Whether requests for other forms of the same objects are its affair too.
    pub(super) equivalent: bool,
    pub(super) selectors: Result<Selectors, SelectorError>,
    pub(super) conditions: MatchConditions,
    /// Whether a failed call lets the request pass.
    pub ignores_failures: bool,
    /// Whether it wants to see changes that are made after it.
    pub reinvoked: bool,
    pub(super) no_effects_in_dry_run: bool,
    pub(super) timeout: Duration,
    pub(super) version: Option<Version>,
    client_config: Value,
    resolver: Arc<dyn Resolver>,
    /// Made by the first call: who tells of changes of configurations must not wait for keys to be read.
    client: OnceLock<Result<Client, String>>,
}

fn client(config: &Value, resolver: Arc<dyn Resolver>) -> Result<Client, String> {
    let service = &config["service"];
    let address = match config["url"].as_str() {
        Some(url) => Address::Url(url.to_owned()),
        None => Address::Service {
            namespace: text(service, "/namespace").to_owned(),
            name: text(service, "/name").to_owned(),
            path: text(service, "/path").to_owned(),
            port: u16::try_from(service["port"].as_u64().unwrap_or(HTTPS_PORT)).map_err(|error| error.to_string())?,
        },
    };
    let authorities = STANDARD.decode(text(config, "/caBundle")).map_err(|error| error.to_string())?;
    let failed = |error| format!("unable to load root certificates: {error}");
    Client::new(&Target { address, authorities }, resolver).map_err(failed)
}

impl Hook {
    /// The webhooks of a configuration. What cannot be used of one is told when it would be asked.
    pub(super) fn all(configuration: &Value, resolver: &Arc<dyn Resolver>) -> Vec<Arc<Hook>> {
        let owner = text(configuration, "/metadata/name");
        let webhooks = items(configuration, "/webhooks").iter().enumerate();
        webhooks.map(|(i, webhook)| Arc::new(Hook::of(owner, i, webhook, resolver.clone()))).collect()
    }

    fn of(configuration: &str, index: usize, webhook: &Value, resolver: Arc<dyn Resolver>) -> Self {
        let name = text(webhook, "/name").to_owned();
        Hook {
            id: format!("{configuration}/{name}/{index}"),
            rules: items(webhook, "/rules").iter().map(Rule::of).collect(),
            equivalent: webhook["matchPolicy"] != "Exact",
            selectors: Selectors::of(webhook),
            conditions: MatchConditions::of(webhook),
            ignores_failures: webhook["failurePolicy"] == "Ignore",
            reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            no_effects_in_dry_run: matches!(text(webhook, "/sideEffects"), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT)),
            version: items(webhook, "/admissionReviewVersions")
                .iter()
                .find_map(|version| Version::parse(version.as_str().unwrap_or_default())),
            client_config: webhook["clientConfig"].clone(),
            resolver,
            client: OnceLock::new(),
            name,
        }
    }

    /// The client, or why there is none.
    pub(super) fn client(&self) -> Result<&Client, &String> {
        self.client.get_or_init(|| client(&self.client_config, self.resolver.clone())).as_ref()
    }
}
