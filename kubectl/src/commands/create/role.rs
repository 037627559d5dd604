//! `create role` and `create clusterrole`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Error, Result, usage};
use crate::session::Session;

/// Verbs that mean something for some resource.
const VERBS: [&str; 14] = [
    "*",
    "get",
    "delete",
    "list",
    "create",
    "update",
    "patch",
    "watch",
    "proxy",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
];

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// Verbs that apply to the resources contained in the rule
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// Resources that the rule applies to
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Resources in the white list that the rule applies to
    #[arg(long)]
    resource_name: Vec<String>,
    /// A partial URL that user should have access to (cluster roles)
    #[arg(long, value_delimiter = ',')]
    non_resource_url: Vec<String>,
    /// Labels of cluster roles whose rules are combined (cluster roles)
    #[arg(long, value_delimiter = ',')]
    aggregation_rule: Vec<String>,
}

pub async fn make<'a>(options: &'a Options, kind: &str, session: &mut Session) -> Result<Made<'a>> {
    let name = options.named.name(&kind.to_lowercase())?;
    let mut object = named("rbac.authorization.k8s.io/v1", kind, name);
    let making = &options.named.making;
    if kind == "ClusterRole" && !options.aggregation_rule.is_empty() {
        let mut labels = json!({});
        for pair in &options.aggregation_rule {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            labels[key] = value.into();
        }
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = json!([]);
        return Ok(Made { object, making, failed: "" });
    }
    if options.verb.is_empty() {
        return usage("at least one verb must be specified");
    }
    if options.resource.is_empty() && (options.non_resource_url.is_empty() || kind == "Role") {
        let other = if kind == "Role" { "" } else { " or nonResourceURL" };
        return usage(format!("at least one resource{other} must be specified"));
    }
    let verbs = unique(&options.verb);
    for verb in verbs.iter().filter(|verb| !options.resource.is_empty() && !VERBS.contains(&verb.as_str())) {
        session.client.warn(&format!("'{verb}' is not a standard resource verb"))?;
    }
    let mut rules: Vec<Value> = Vec::new();
    for (group, resources) in by_group(options, session).await? {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !options.resource_name.is_empty() {
            rule["resourceNames"] = json!(options.resource_name);
        }
        rules.push(rule);
    }
    if !options.non_resource_url.is_empty() {
        rules.push(json!({"nonResourceURLs": options.non_resource_url, "verbs": verbs}));
    }
    object["rules"] = rules.into();
    Ok(Made { object, making, failed: "" })
}

fn unique(texts: &[String]) -> Vec<String> {
    if texts.iter().any(|text| text == "*") {
        return vec!["*".to_owned()];
    }
    let mut unique: Vec<String> = Vec::new();
    for text in texts {
        if !unique.contains(text) {
            unique.push(text.clone());
        }
    }
    unique
}

/// The resources of each group, as the server knows them.
async fn by_group(options: &Options, session: &mut Session) -> Result<BTreeMap<String, Vec<String>>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in unique(&options.resource) {
        let (name, below) = text.split_once('/').map_or((text.as_str(), None), |(name, below)| (name, Some(below)));
        let (group, plural) = if name == "*" {
            ("*".to_owned(), "*".to_owned())
        } else {
            let resource = match session.find(name).await {
                Err(Error::Usage(message)) => return Err(Error::Plain(message)),
                other => other?,
            };
            (resource.group, resource.plural)
        };
        let resource = below.map_or_else(|| plural.clone(), |below| format!("{plural}/{below}"));
        groups.entry(group).or_default().push(resource);
    }
    Ok(groups)
}
