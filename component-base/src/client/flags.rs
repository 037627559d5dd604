//! The flags by which a component finds the API server.

use std::path::PathBuf;

use kube::{Client, Config};

use super::{Error, Limits, config, from_config_with};
use crate::version;

/// Flatten it into a component's options.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "api-client")]
pub struct Flags {
    /// Path to the kubeconfig file with authorization and API server location
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the Kubernetes API server, overrides the kubeconfig's
    #[arg(long)]
    pub master: Option<String>,
    /// How many requests are made at most.
    #[command(flatten)]
    pub limits: Limits,
    /// Taken so that existing manifests work: JSON is what is spoken.
    #[arg(long, hide = true)]
    kube_api_content_type: Option<String>,
}

impl Flags {
    /// The configuration that the flags name.
    ///
    /// # Errors
    /// When there is none, or it is not well formed.
    pub async fn config(&self) -> Result<Config, Error> {
        config(self.kubeconfig.as_deref(), self.master.as_deref()).await
    }

    /// A client of a component from a configuration, within the limits.
    ///
    /// # Errors
    /// When its certificates or keys cannot be used.
    pub fn client(&self, config: Config, component: &str) -> Result<Client, Error> {
        from_config_with(config, &version::user_agent(component), &self.limits)
    }
}
