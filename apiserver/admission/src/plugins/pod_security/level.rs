//! Levels, and where namespaces say them.

use std::fmt;

use apimachinery::meta;
use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// A level as of a version. All versions are checked as the newest is: it is the strictest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) level: Level,
    version: String,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { level: Level::default(), version: "latest".to_owned() }
    }
}

impl Policy {
    /// What the namespace says for the mode. A level that cannot be read is the strictest.
    pub(super) fn of(namespace: &Value, mode: &str) -> Self {
        let level = match meta::label(namespace, &label(mode)) {
            None => Level::Privileged,
            Some(text) => Level::parse(text).unwrap_or(Level::Restricted),
        };
        let version = meta::label(namespace, &version_label(mode)).unwrap_or("latest");
        Policy { level, version: version.to_owned() }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level.name(), self.version)
    }
}

pub(super) fn label(mode: &str) -> String {
    format!("{PREFIX}{mode}")
}

pub(super) fn version_label(mode: &str) -> String {
    format!("{PREFIX}{mode}-version")
}

/// Some if the text is `latest` or `v1.<number>`.
pub(super) fn is_version(text: &str) -> Option<Level> {
    let minor = text.strip_prefix("v1.").is_some_and(|minor| {
        !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'))
    });
    (text == "latest" || minor).then_some(Level::default())
}
