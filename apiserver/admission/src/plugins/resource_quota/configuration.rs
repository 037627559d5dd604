//! `ResourceQuotaConfiguration`: what nobody may use without a quota that covers it.

use k8s_openapi::api::core::v1::ScopedResourceSelectorRequirement;
use serde::Deserialize;

/// The kinds that the configuration comes as.
pub const KINDS: [(&str, &str); 3] = [
    ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
    ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
    ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    #[serde(default)]
    pub limited_resources: Vec<Limited>,
}

/// What is limited of the objects of one resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limited {
    #[serde(default)]
    pub api_group: String,
    pub resource: String,
    /// Parts of the names of what is limited.
    #[serde(default)]
    pub match_contains: Vec<String>,
    /// Scopes that objects may be in only where a quota is for them.
    #[serde(default)]
    pub match_scopes: Vec<ScopedResourceSelectorRequirement>,
}
