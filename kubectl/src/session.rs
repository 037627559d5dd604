//! What the commands of one run share: the connection, the namespace, and the server's resources once they are known.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::discovery::{self, Discovery};
use crate::error::{Error, Result, usage};
use crate::options::Globals;

/// A connection to a cluster, with the flags that choose where.
pub struct Session {
    /// The client.
    pub client: Client,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// Whether `--namespace` was given, which manifests must then agree with.
    pub explicit_namespace: bool,
    discovery: Option<Discovery>,
}

impl Session {
    /// Connects as the flags say.
    pub async fn open(globals: &Globals) -> Result<Self> {
        let config = config(globals).await?;
        let namespace = globals.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = component_base::client::from_config(config, &component_base::version::user_agent("kubectl"))
            .map_err(|error| Error::Usage(error.to_string()))?;
        Ok(Self { client, namespace, explicit_namespace: globals.namespace.is_some(), discovery: None })
    }

    /// The server's resources, asked for once.
    pub async fn discovery(&mut self) -> Result<&Discovery> {
        if self.discovery.is_none() {
            self.discovery = Some(discovery::fetch(&self.client).await?);
        }
        self.discovery.as_ref().ok_or_else(|| Error::Usage("no discovery".into()))
    }

    /// Forgets the resources, so that those made since are found.
    pub fn forget_discovery(&mut self) {
        self.discovery = None;
    }
}

async fn config(globals: &Globals) -> Result<Config> {
    let options = KubeConfigOptions {
        context: globals.context.clone(),
        cluster: globals.cluster.clone(),
        user: globals.user.clone(),
    };
    let mut config = match load(globals)? {
        Some(file) => Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|error| Error::Usage(format!("invalid configuration: {error}")))?,
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => {
                return usage("no kubeconfig: give --kubeconfig, set KUBECONFIG, or make ~/.kube/config");
            }
        },
    };
    if let Some(server) = &globals.server {
        config.cluster_url = server.parse().map_err(|_| Error::Usage(format!("invalid server address {server:?}")))?;
    }
    // Watches and logs are quiet for long; they end by their own flags.
    config.read_timeout = None;
    Ok(config)
}

/// The kubeconfig of the flags, the environment or the home directory; `None` where there is none.
pub fn load(globals: &Globals) -> Result<Option<Kubeconfig>> {
    let wrong = |error: kube::config::KubeconfigError| Error::Usage(format!("error loading config file: {error}"));
    if let Some(path) = &globals.kubeconfig {
        return Kubeconfig::read_from(path).map(Some).map_err(wrong);
    }
    if let Some(found) = Kubeconfig::from_env().map_err(wrong)? {
        return Ok(Some(found));
    }
    match home() {
        Some(path) if path.exists() => Kubeconfig::read_from(path).map(Some).map_err(wrong),
        _ => Ok(None),
    }
}

/// The file that `config` changes.
pub fn writable_path(globals: &Globals) -> Option<std::path::PathBuf> {
    let environment = || {
        let value = std::env::var_os("KUBECONFIG")?;
        std::env::split_paths(&value).find(|path| path.exists())
    };
    globals.kubeconfig.clone().or_else(environment).or_else(home)
}

fn home() -> Option<std::path::PathBuf> {
    std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".kube/config"))
}
