//! The formats of strings. A format that is not known demands nothing, as in Kubernetes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use apimachinery::names;
use apimachinery::time::Moment;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use regex::Regex;

/// Formats that are a pattern.
static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let hex = |digit: &str| {
        format!("(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{digit}[0-9a-f]{{3}}-?[0-9a-f]{{4}}-?[0-9a-f]{{12}}$")
    };
    let all = [
        ("bsonobjectid", "^[0-9a-fA-F]{24}$".to_owned()),
        ("email", r"^[^@\s]+@[^@\s]+$".to_owned()),
        ("mac", "^([0-9a-fA-F]{2}[:-]){5}([0-9a-fA-F]{2}[:-]?){0,2}[0-9a-fA-F]{2}$".to_owned()),
        ("uuid", hex("[0-9a-f]")),
        ("uuid3", hex("3")),
        ("uuid4", hex("4")),
        ("uuid5", hex("5")),
        ("isbn10", "^([0-9]-?){9}[0-9xX]$".to_owned()),
        ("isbn13", "^([0-9]-?){12}[0-9]$".to_owned()),
        ("isbn", "^(([0-9]-?){9}[0-9xX]|([0-9]-?){12}[0-9])$".to_owned()),
        ("creditcard", "^([0-9][- ]?){12,18}[0-9]$".to_owned()),
        ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$".to_owned()),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$".to_owned()),
        ("rgbcolor", r"^rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)$".to_owned()),
        ("uri", r"^([a-zA-Z][a-zA-Z0-9+.-]*:|/).*$".to_owned()),
        ("duration", r"^-?(\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d|w|[a-z]+)\s*)+$".to_owned()),
    ];
    all.into_iter()
        .map(|(name, pattern)| (name, Regex::new(&pattern).expect("the patterns are part of the program and tested")))
        .collect()
});

/// Formats that are found otherwise; those of numbers demand nothing of strings.
const OTHERS: [&str; 14] = [
    "byte",
    "cidr",
    "date",
    "date-time",
    "datetime",
    "double",
    "float",
    "hostname",
    "int32",
    "int64",
    "ipv4",
    "ipv6",
    "k8s-long-name",
    "k8s-short-name",
];

/// Whether a format demands anything.
pub fn is_known(name: &str) -> bool {
    OTHERS.contains(&name) || PATTERNS.iter().any(|(known, _)| *known == name)
}

/// Whether a text is of the format.
pub(super) fn holds(name: &str, text: &str) -> bool {
    match name {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.contains('/') && text.parse::<IpNet>().is_ok(),
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && Moment::parse(&format!("{text}T00:00:00Z")).is_some(),
        "date-time" | "datetime" => Moment::parse(text).is_some(),
        "hostname" => names::dns1123_subdomain(&text.to_lowercase()).is_empty(),
        "k8s-short-name" => names::dns1123_label(text).is_empty(),
        "k8s-long-name" => names::dns1123_subdomain(text).is_empty(),
        _ => PATTERNS.iter().find(|(known, _)| *known == name).is_none_or(|(_, pattern)| pattern.is_match(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_texts_apart() {
        for (name, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("date", "2026-01-31", "2026-01-32"),
            ("date-time", "2026-01-31T00:00:00Z", "2026-01-31"),
            ("email", "a@example.com", "a"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uri", "https://example.com", "no link"),
            ("hostname", "a.example.com", "a_b"),
            ("byte", "YQ==", "Y"),
            ("duration", "1h30m", "soon"),
            ("hexcolor", "#fff", "#ffff"),
            ("k8s-short-name", "a-b", "a.b"),
        ] {
            assert!(is_known(name) && holds(name, good) && !holds(name, bad), "{name}");
        }
        assert!(!is_known("no-such-format"));
    }
}
