//! What the two webhook plugins are told: WebhookAdmissionConfiguration.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Authenticate API servers").

use serde::Deserialize;

/// The kinds that say it, the present one first.
pub const KINDS: [(&str, &str); 2] = [
    ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"),
];

/// How the server shows webhooks who it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    /// A kubeconfig file with credentials for webhooks.
    #[serde(default)]
    kube_config_file: String,
}

impl Configuration {
    /// Whether the server can do what it is told.
    ///
    /// # Errors
    /// Credentials: the server does not show any to webhooks.
    pub fn check(&self) -> Result<(), String> {
        if self.kube_config_file.is_empty() { Ok(()) } else { Err("kubeConfigFile is not supported".to_owned()) }
    }
}
