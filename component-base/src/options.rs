//! Flags that all components of the control plane have, and values of flags and configuration files as Kubernetes writes them.
//!
//! Go's boolean flags may be given as `--flag` and `--flag=false`; with clap that is
//! `#[arg(long, num_args = 0..=1, require_equals = true, default_value_t = …, default_missing_value = "true", action = clap::ArgAction::Set)]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in Go's notation (`1h2m3.5s`, `250ms`, `0`), for flags and for `metav1.Duration` in configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// What is wrong with the text of a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: expected numbers with units, such as 1h30m or 250ms")]
pub struct InvalidDuration(String);

impl GoDuration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<GoDuration> for Duration {
    fn from(value: GoDuration) -> Self {
        value.0
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut nanos: f64 = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            nanos += number * nanos_of(&rest[..unit]).ok_or_else(invalid)?;
            rest = &rest[unit..];
        }
        if nanos > u64::MAX as f64 { Err(invalid()) } else { Ok(Self(Duration::from_nanos(nanos.round() as u64))) }
    }
}

fn nanos_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000_000_000 {
            let (unit, per) = match nanos {
                n if n >= 1_000_000 => ("ms", 1e6),
                n if n >= 1_000 => ("µs", 1e3),
                _ => ("ns", 1.0),
            };
            return write!(f, "{}{unit}", nanos as f64 / per);
        }
        let (hours, minutes) = (self.0.as_secs() / 3600, self.0.as_secs() / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let seconds = (nanos % 60_000_000_000) as f64 / 1e9;
        write!(f, "{seconds}s")
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Flags of all of upstream's control plane that would change what a component does, and that ours does not have.
pub const UNSUPPORTED: &[&str] = &[
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "disable-http2-serving",
    "disabled-metrics",
    "emulated-version",
    "min-compatibility-version",
    "permit-address-sharing",
    "permit-port-sharing",
    "show-hidden-metrics-for-version",
    "tls-cipher-suites",
    "tls-curve-preferences",
    "tls-min-version",
    "tls-sni-cert-key",
    "vmodule",
];

/// Flags of all of upstream's control plane that are taken so that existing manifests work; nothing depends on them.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "ignored")]
pub struct Ignored {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    authentication_skip_lookup: Option<bool>,
    #[arg(long, hide = true)]
    authentication_token_webhook_cache_ttl: Option<GoDuration>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    authentication_tolerate_lookup_failure: Option<bool>,
    #[arg(long, hide = true)]
    authorization_webhook_cache_authorized_ttl: Option<GoDuration>,
    #[arg(long, hide = true)]
    authorization_webhook_cache_unauthorized_ttl: Option<GoDuration>,
    #[arg(long, hide = true)]
    cert_dir: Option<PathBuf>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    contention_profiling: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    profiling: Option<bool>,
    #[arg(long, hide = true)]
    feature_gates: Vec<String>,
    #[arg(long, hide = true)]
    http2_max_streams_per_connection: Option<i32>,
    #[arg(long, hide = true)]
    log_flush_frequency: Option<GoDuration>,
    #[arg(long, hide = true)]
    log_json_info_buffer_size: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_json_split_stream: Option<bool>,
    #[arg(long, hide = true)]
    log_text_info_buffer_size: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_text_split_stream: Option<bool>,
    #[arg(long, hide = true)]
    requestheader_allowed_names: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    requestheader_extra_headers_prefix: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_group_headers: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_uid_headers: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_username_headers: Vec<String>,
}

/// A flag of the upstream component that ours does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{0} is a flag of Kubernetes that Corten does not support")]
pub struct UnsupportedFlag(pub String);

/// Looks for flags that upstream has and this component does not, so that the message can say so. Call it with the arguments before clap parses them.
pub fn check_supported(
    arguments: impl IntoIterator<Item = String>,
    unsupported: &[&str],
) -> Result<(), UnsupportedFlag> {
    for argument in arguments {
        let Some(flag) = argument.strip_prefix("--") else { continue };
        let name = flag.split_once('=').map_or(flag, |(name, _)| name);
        if unsupported.contains(&name) {
            return Err(UnsupportedFlag(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        for (text, millis, printed) in [
            ("0", 0, "0s"),
            ("15s", 15_000, "15s"),
            ("1m40s", 100_000, "1m40s"),
            ("1h", 3_600_000, "1h0m0s"),
            ("1.5s", 1_500, "1.5s"),
            ("250ms", 250, "250ms"),
        ] {
            let parsed: GoDuration = text.parse().unwrap();
            assert_eq!(parsed.0, Duration::from_millis(millis), "{text}");
            assert_eq!(parsed.to_string(), printed);
        }
        for text in ["", "10", "s", "5 s", "1x", "-1s", "1.2.3s"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text:?}");
        }
    }
}
