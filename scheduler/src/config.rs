//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1): reading it, and building profiles from it.

mod file;
mod plugins;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use crate::labels::intern;
use crate::queue::{Profiles, Settings};
pub use file::{ClientConnection, Configuration, LeaderElection, Profile};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not a valid KubeSchedulerConfiguration")]
    Parse { path: String, source: Box<serde_saphyr::Error> },
    #[error("{path} is of {found}, not of kubescheduler.config.k8s.io/v1 KubeSchedulerConfiguration")]
    Kind { path: String, found: String },
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: String },
    #[error("{field}: plugin {name:?} does not exist")]
    UnknownPlugin { field: String, name: String },
    #[error("{field}: plugin {name:?} is not supported yet")]
    UnsupportedPlugin { field: String, name: String },
    #[error("profile {profile:?}: pluginConfig of {plugin}")]
    Args { profile: String, plugin: String, source: Box<dyn std::error::Error + Send + Sync> },
}

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

impl Configuration {
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: shown.clone(), source })?;
        Self::from_yaml(&text, &shown)
    }

    /// Parses YAML or JSON; `path` is for messages.
    pub fn from_yaml(text: &str, path: &str) -> Result<Self, Error> {
        let parse = |source| Error::Parse { path: path.to_owned(), source: Box::new(source) };
        let config: Self = serde_saphyr::from_str(text).map_err(parse)?;
        if config.api_version != API_VERSION || config.kind != KIND {
            let found = format!("{} {}", config.api_version, config.kind);
            return Err(Error::Kind { path: path.to_owned(), found });
        }
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Error> {
        let invalid = |field: &str, problem: &str| Err(Error::Invalid { field: field.into(), problem: problem.into() });
        if self.parallelism == Some(0) {
            return invalid("parallelism", "should be a value greater than zero");
        }
        if self.percentage_of_nodes_to_score.is_some_and(|p| p > 100) {
            return invalid("percentageOfNodesToScore", "not in valid range [0-100]");
        }
        if self.initial_backoff_seconds() == 0 {
            return invalid("podInitialBackoffSeconds", "must be greater than 0");
        }
        if self.max_backoff_seconds() < self.initial_backoff_seconds() {
            return invalid("podMaxBackoffSeconds", "must be greater than or equal to podInitialBackoffSeconds");
        }
        if !self.extenders.is_empty() {
            return invalid("extenders", "extenders are not supported yet");
        }
        if self.profiles.as_ref().is_some_and(Vec::is_empty) {
            return invalid("profiles", "Required value");
        }
        Ok(())
    }

    fn initial_backoff_seconds(&self) -> u64 {
        self.pod_initial_backoff_seconds.unwrap_or(1)
    }

    fn max_backoff_seconds(&self) -> u64 {
        self.pod_max_backoff_seconds.unwrap_or(10)
    }

    pub fn queue_settings(&self) -> Settings {
        Settings {
            initial_backoff: Duration::from_secs(self.initial_backoff_seconds()),
            max_backoff: Duration::from_secs(self.max_backoff_seconds()),
            ..Settings::default()
        }
    }

    /// Builds the profiles. Without a client, as in simulations, there is no DefaultBinder.
    pub fn profiles(&self, client: Option<&Client>) -> Result<Profiles, Error> {
        let default = [Profile::default()];
        let mut profiles = Profiles::new();
        for (index, profile) in self.profiles.as_deref().unwrap_or(&default).iter().enumerate() {
            let name = profile.scheduler_name.as_deref().unwrap_or("default-scheduler");
            let built = plugins::build(name, index, profile, client)?;
            if profiles.insert(intern(name), Arc::new(built)).is_some() {
                let field = format!("profiles[{index}].schedulerName");
                return Err(Error::Invalid { field, problem: format!("Duplicate value: {name:?}") });
            }
        }
        Ok(profiles)
    }
}

#[cfg(test)]
mod tests;
