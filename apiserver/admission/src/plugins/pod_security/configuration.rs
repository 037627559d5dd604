//! `PodSecurityConfiguration`: what holds in namespaces that say nothing, and who is exempt.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::level::{Level, Policies, Policy, Version};

/// The kinds that the configuration comes as.
pub const KINDS: [(&str, &str); 3] = [
    ("pod-security.admission.config.k8s.io/v1", "PodSecurityConfiguration"),
    ("pod-security.admission.config.k8s.io/v1beta1", "PodSecurityConfiguration"),
    ("pod-security.admission.config.k8s.io/v1alpha1", "PodSecurityConfiguration"),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    #[serde(default, deserialize_with = "policies")]
    pub(super) defaults: Policies,
    #[serde(default)]
    pub(super) exemptions: Exemptions,
}

/// Whose requests are not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Exemptions {
    #[serde(default)]
    pub(super) usernames: Vec<String>,
    #[serde(default)]
    pub(super) namespaces: Vec<String>,
    #[serde(default)]
    pub(super) runtime_classes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

fn policies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Policies, D::Error> {
    let said = Defaults::deserialize(deserializer)?;
    let policy = |mode: &str, level: &str, version: &str| -> Result<Policy, D::Error> {
        let bad =
            |field: &str, value: &str, detail: &str| D::Error::custom(format!("defaults.{field}: {value:?} {detail}"));
        let mut policy = Policy::default();
        if !level.is_empty() {
            policy.level = Level::parse(level).map_err(|detail| bad(mode, level, detail))?;
        }
        if !version.is_empty() {
            policy.version =
                Version::parse(version).map_err(|detail| bad(&format!("{mode}-version"), version, detail))?;
        }
        Ok(policy)
    };
    Ok(Policies {
        enforce: policy("enforce", &said.enforce, &said.enforce_version)?,
        audit: policy("audit", &said.audit, &said.audit_version)?,
        warn: policy("warn", &said.warn, &said.warn_version)?,
    })
}
