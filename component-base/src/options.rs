//! Values of flags and configuration files as Kubernetes writes them.
//!
//! Go's boolean flags may be given as `--flag` and `--flag=false`; with clap that is
//! `#[arg(long, num_args = 0..=1, require_equals = true, default_value_t = …, default_missing_value = "true", action = clap::ArgAction::Set)]`.

use std::fmt;
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
