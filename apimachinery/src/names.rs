//! Names as Kubernetes allows them, and its messages for those it does not.
//!
//! "Object Names and IDs", "Labels and Selectors". Each check gives every reason, none where the name is good.

use std::net::IpAddr;

use rand::Rng;

const DNS1123_LABEL: usize = 63;
const DNS1123_SUBDOMAIN: usize = 253;
const LABEL_VALUE: usize = 63;
const QUALIFIED_NAME: usize = 63;

/// The longest base of a generated name, so that the suffix fits.
const GENERATED_BASE: usize = DNS1123_LABEL - SUFFIX;
const SUFFIX: usize = 5;
/// Without vowels and what looks alike, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

const EMPTY: &str = "must be non-empty";

fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    format!("{message} (e.g. {}, regex used for validation is '{pattern}')", examples.join(",  or "))
}

fn is_lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_shaped(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            is_lower_alphanumeric(*first)
                && is_lower_alphanumeric(*last)
                && bytes.iter().all(|b| is_lower_alphanumeric(*b) || *b == b'-')
        }
        _ => false,
    }
}

fn is_subdomain_shaped(text: &str) -> bool {
    text.split('.').all(is_label_shaped)
}

/// A DNS label as RFC 1123 has it: `web-1`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS1123_LABEL {
        errors.push(too_long(DNS1123_LABEL));
    }
    if !is_label_shaped(value) {
        errors.push(if is_subdomain_shaped(value) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
                &["my-name", "123-abc"],
            )
        });
    }
    errors
}

/// A DNS subdomain as RFC 1123 has it: `web.example.com`.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS1123_SUBDOMAIN {
        errors.push(too_long(DNS1123_SUBDOMAIN));
    }
    if !is_subdomain_shaped(value) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    errors
}

/// What stands for a prefix of generated names when it is held to the rule of names: the dash that it may end with, and the
/// character before, count as one that is allowed.
pub fn as_prefix(prefix: &str) -> String {
    let end = prefix.len() > 1 && prefix.ends_with('-');
    let stem = prefix.char_indices().rev().nth(1).map(|(start, _)| &prefix[..start]);
    match stem.filter(|_| end) {
        Some(stem) => format!("{stem}a"),
        None => prefix.to_owned(),
    }
}

/// A DNS subdomain that a suffix may be added to.
pub fn dns1123_subdomain_prefix(value: &str) -> Vec<String> {
    dns1123_subdomain(&as_prefix(value))
}

/// A DNS label that starts with a letter, as RFC 1035 has it.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS1123_LABEL {
        errors.push(too_long(DNS1123_LABEL));
    }
    if !is_label_shaped(value) || !value.as_bytes()[0].is_ascii_lowercase() {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// A DNS subdomain whose first part may be `*`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    match value.strip_prefix("*.") {
        Some(rest) if is_subdomain_shaped(rest) && value.len() <= DNS1123_SUBDOMAIN => Vec::new(),
        _ => vec![regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            "\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["*.example.com"],
        )],
    }
}

fn is_qualified_shaped(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

/// The key of a label or an annotation: `app`, `example.com/app`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push(format!("prefix part {EMPTY}"));
            } else {
                errors.extend(dns1123_subdomain(prefix).into_iter().map(|error| format!("prefix part {error}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(QUALIFIED_MESSAGE, QUALIFIED_PATTERN, &["MyName", "my.name", "123-abc"])
            )];
        }
    };
    if name.is_empty() {
        errors.push(format!("name part {EMPTY}"));
    } else if name.len() > QUALIFIED_NAME {
        errors.push(format!("name part {}", too_long(QUALIFIED_NAME)));
    }
    if !is_qualified_shaped(name) {
        errors.push(format!(
            "name part {}",
            regex_error(QUALIFIED_MESSAGE, QUALIFIED_PATTERN, &["MyName", "my.name", "123-abc"])
        ));
    }
    errors
}

const QUALIFIED_MESSAGE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_VALUE {
        errors.push(too_long(LABEL_VALUE));
    }
    if !value.is_empty() && !is_qualified_shaped(value) {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// The name of a port, as IANA names services: `http`, `web-8080`.
pub fn port_name(value: &str) -> Vec<String> {
    const MAX: usize = 15;
    let mut errors = Vec::new();
    if value.len() > MAX {
        errors.push("must be no more than 15 characters".to_owned());
    }
    if !value.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-') || value.is_empty() {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A port number.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if value.bytes().any(|b| !(0x20..0x7f).contains(&b) || b == b'=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    errors
}

/// A key of a ConfigMap or a Secret: what can be a file's name.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS1123_SUBDOMAIN {
        errors.push(too_long(DNS1123_SUBDOMAIN));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// What can stand in a URL's path as one segment: the names of RBAC's objects.
pub fn path_segment(value: &str) -> Vec<String> {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    ['/', '%'].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// An IP address, v4 or v6.
pub fn ip(value: &str) -> Vec<String> {
    if value.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// A network.
pub fn cidr(value: &str) -> Vec<String> {
    if value.parse::<ipnet::IpNet>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A name made of the base and a random suffix of five characters; a base that is too long is cut.
pub fn generate(base: &str) -> String {
    let mut end = base.len().min(GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(SUFFIX))
}

/// Random characters as Kubernetes uses in names.
pub fn random_suffix(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// A hash in the form of [`random_suffix`], as in the names of replica sets.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        let long = "a".repeat(63);
        for name in ["a", "web-1", "1", &long] {
            assert_eq!(dns1123_label(name), Vec::<String>::new(), "{name}");
        }
        assert!(dns1123_subdomain("a.b-c.d").is_empty());
        assert!(dns1035_label("a1").is_empty());
        for name in ["app", "A_b.c", "example.com/app"] {
            assert!(qualified_name(name).is_empty(), "{name}");
        }
        assert!(label_value("").is_empty() && label_value("a.B_c").is_empty());
        assert!(port_name("http-2").is_empty() && env_var_name("a.b c").is_empty());
        assert!(config_map_key("..a").len() == 1 && config_map_key(".a").is_empty());
        assert!(ip("::1").is_empty() && cidr("10.0.0.0/8").is_empty() && path_segment("system:node").is_empty());
    }

    #[test]
    fn bad_names_say_every_reason() {
        let long = format!("-{}", "a".repeat(63));
        assert_eq!(dns1123_label(&long).len(), 2);
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        for name in ["", "/a", "a/", "a/b/c", "-a", "A/b"] {
            assert!(!qualified_name(name).is_empty(), "{name}");
        }
        assert!(!label_value("-").is_empty() && !dns1035_label("1a").is_empty() && !dns1035_label("").is_empty());
        assert_eq!(port_name("-8080--").len(), 3);
        assert!(!ip("1.2.3").is_empty() && !cidr("10.0.0.0").is_empty() && !env_var_name("a=b").is_empty());
    }

    #[test]
    fn a_prefix_may_end_with_a_dash() {
        assert_eq!((as_prefix("web-").as_str(), as_prefix("-").as_str(), as_prefix("é-").as_str()), ("wea", "-", "a"));
        assert!(dns1123_subdomain_prefix("a.b-").is_empty() && !dns1123_subdomain_prefix("-a-").is_empty());
    }

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate(&"x".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(dns1123_label(&name).is_empty());
        assert_ne!(generate("web-"), generate("web-"));
    }
}
