//! Levels and versions of the standards, and where namespaces say them.

use std::fmt;

use apimachinery::field::{Error, Path};
use apimachinery::meta;
use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
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

/// Of which minor version of Kubernetes; the latest is newer than all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Minor(u32),
    #[default]
    Latest,
}

impl Version {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let is_number =
            |minor: &&str| *minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
        match text.strip_prefix("v1.").filter(is_number).map(str::parse) {
            _ if text == "latest" => Ok(Version::Latest),
            Some(Ok(minor)) => Ok(Version::Minor(minor)),
            _ => Err("must be \"latest\" or \"v1.x\""),
        }
    }
}

/// A level as of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What a namespace says for each mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    pub(super) enforce: Policy,
    pub(super) audit: Policy,
    pub(super) warn: Policy,
}

impl Policies {
    /// What the namespace's labels say, where they say something, and what is wrong with them. A level that cannot be read is
    /// the strictest where it is enforced, and none elsewhere.
    pub(super) fn of(namespace: &Value, defaults: Policies) -> (Self, Vec<Error>) {
        let mut policies = defaults;
        let mut errors = Vec::new();
        let modes = [
            ("enforce", &mut policies.enforce, Level::Restricted),
            ("audit", &mut policies.audit, Level::Privileged),
            ("warn", &mut policies.warn, Level::Privileged),
        ];
        let mut note = |key: &str, value: &str, detail: &str| {
            errors.push(Error::invalid(&Path::new("metadata").child("labels").key(key), value, detail));
        };
        for (mode, policy, unreadable) in modes {
            let (key, version) = (label(mode), format!("{}-version", label(mode)));
            if let Some(value) = meta::label(namespace, &key) {
                policy.level = Level::parse(value).unwrap_or_else(|detail| {
                    note(&key, value, detail);
                    unreadable
                });
            }
            if let Some(value) = meta::label(namespace, &version) {
                policy.version = Version::parse(value).unwrap_or_else(|detail| {
                    note(&version, value, detail);
                    Version::Latest
                });
            }
        }
        (policies, errors)
    }
}

impl fmt::Display for Policies {
    /// The modes that ask for something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes = [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)];
        let asking = modes.into_iter().filter(|(_, policy)| policy.level > Level::Privileged);
        let shown: Vec<String> = asking.map(|(mode, policy)| format!("{mode}={policy}")).collect();
        f.write_str(&shown.join(", "))
    }
}

pub(super) fn label(mode: &str) -> String {
    format!("{PREFIX}{mode}")
}
