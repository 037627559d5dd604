//! What the commands of one run share: the connection, the namespace, and the server's resources once they are known.

use std::path::PathBuf;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::api::{Call, Client};
use crate::discovery::{self, Discovery, Resource};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::kubeconfig::{self, Effective, Files};
use crate::options::Globals;
use crate::warnings::Warnings;

/// A connection to a cluster, with the flags that choose where.
pub struct Session {
    /// The client.
    pub client: Client,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// Whether `--namespace` was given, which manifests must then agree with.
    pub explicit_namespace: bool,
    discovery: Option<Discovery>,
    cache: Option<PathBuf>,
}

impl Session {
    /// Connects as the flags say. Nothing is sent yet.
    ///
    /// # Errors
    /// When the kubeconfig is wrong, or the flags do not fit it.
    pub async fn open(globals: &Globals, warnings: Warnings) -> Result<Self> {
        let merged = kubeconfig::merge(&Files::of(globals).read()?);
        let effective = kubeconfig::effective(&merged, globals)?;
        let named = globals.namespace.clone().filter(|namespace| !namespace.is_empty());
        let config = config(&effective, globals).await?;
        let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let namespace = [named.as_deref(), Some(effective.namespace.as_str()), Some(&config.default_namespace)];
        let namespace = namespace.into_iter().flatten().find(|text| !text.is_empty()).unwrap_or("default").to_owned();
        let cache = cache_dir(globals).map(|dir| dir.join("discovery").join(folder(&host)));
        let kube = component_base::client::from_config(config, &component_base::version::user_agent("kubectl"))
            .map_err(|error| Error::Usage(error.to_string()))?;
        Ok(Self {
            client: Client::new(kube, host, warnings),
            namespace,
            explicit_namespace: named.is_some(),
            discovery: None,
            cache,
        })
    }

    /// The resource that an argument names; the server is asked again when the cache does not know it.
    ///
    /// # Errors
    /// When there is none, or the server is not reached.
    pub async fn find(&mut self, argument: &str) -> Result<Resource> {
        if let Some(resource) = self.discovery().await?.find(argument) {
            return Ok(resource.clone());
        }
        self.refresh().await?.need(argument).cloned()
    }

    /// The resource of an object's `apiVersion` and `kind`; the server is asked again when the cache does not know it.
    ///
    /// # Errors
    /// When the server is not reached.
    pub async fn of_kind(&mut self, api_version: &str, kind: &str) -> Result<Option<Resource>> {
        if let Some(resource) = self.discovery().await?.of_kind(api_version, kind) {
            return Ok(Some(resource.clone()));
        }
        Ok(self.refresh().await?.of_kind(api_version, kind).cloned())
    }

    /// The resources of a category, such as `all`; none where there is no such category.
    ///
    /// # Errors
    /// When the server is not reached.
    pub async fn category(&mut self, name: &str) -> Result<Vec<Resource>> {
        if !self.discovery().await?.is_whole() {
            self.refresh().await?;
        }
        Ok(self.discovery().await?.category(name).into_iter().cloned().collect())
    }

    /// The server's resources, from the cache where it holds them.
    ///
    /// # Errors
    /// When the server is not reached.
    pub async fn discovery(&mut self) -> Result<&Discovery> {
        if self.discovery.is_none() {
            self.discovery = self.cache.as_deref().and_then(discovery::load);
        }
        match self.discovery {
            Some(ref discovery) => Ok(discovery),
            None => self.refresh().await,
        }
    }

    /// The server's resources as the server says now, asked for at most once.
    ///
    /// # Errors
    /// When the server is not reached.
    pub async fn refresh(&mut self) -> Result<&Discovery> {
        if !self.discovery.as_ref().is_some_and(|discovery| discovery.fresh) {
            let found = discovery::fetch(&self.client).await?;
            // A cache that cannot be written costs time, nothing else.
            if let Some(Err(error)) = self.cache.as_deref().map(|dir| discovery::save(&found, dir)) {
                self.cache = None;
                if error.kind() != std::io::ErrorKind::PermissionDenied {
                    self.client.warn(&format!("cannot write the discovery cache: {error}"))?;
                }
            }
            self.discovery = Some(found);
        }
        self.discovery.as_ref().ok_or_else(|| Error::Usage("no discovery".into()))
    }

    /// The server's version.
    ///
    /// # Errors
    /// When the server is not reached.
    pub async fn version(&self) -> Result<Value> {
        self.client.json(&Call::get("/version")).await
    }
}

async fn config(effective: &Effective, globals: &Globals) -> Result<Config> {
    let mut config = match Config::incluster() {
        Ok(config) if effective.unset => config,
        _ => from_kubeconfig(effective).await?,
    };
    // Watches and logs are quiet for long; they end by their own flags.
    config.read_timeout = None;
    if let Some(timeout) = globals.timeout()? {
        config.read_timeout = Some(timeout);
    }
    Ok(config)
}

async fn from_kubeconfig(effective: &Effective) -> Result<Config> {
    let wrong = |error: &dyn std::fmt::Display| Error::Usage(format!("invalid configuration: {error}"));
    let mut cluster = effective.cluster.clone();
    if !cluster.text("server").contains("://") {
        cluster["server"] = format!("http://{}", cluster.text("server")).into();
    }
    let file = json!({
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": effective.user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    let file: Kubeconfig = serde_json::from_value(file).map_err(|error| wrong(&error))?;
    match Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await {
        Ok(config) => Ok(config),
        Err(error) => usage(wrong(&error).to_string()),
    }
}

fn cache_dir(globals: &Globals) -> Option<PathBuf> {
    let given = globals.cache_dir.clone().or_else(|| std::env::var_os("KUBECACHEDIR").map(PathBuf::from));
    given.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/cache")))
}

/// A host and port as the name of a folder.
fn folder(host: &str) -> String {
    host.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_') { c } else { '_' }).collect()
}
