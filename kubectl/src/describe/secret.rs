//! Secrets, of which only the sizes are shown.

use serde_json::Value;

use super::Subject;
use super::page::Page;
use crate::fields::{self, Fields};

/// Writes a secret.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (secret, mut page) = (subject.object, Page::default());
    page.head(secret);
    page.tags(secret);
    page.line(0, format_args!("\nType:\t{}", secret.text("type")));
    page.line(0, "\nData\n====");
    let is_token = secret.text("type") == "kubernetes.io/service-account-token";
    for (key, value) in secret.map("data").into_iter().flatten() {
        if is_token && key == "token" {
            page.field(0, key, decoded(value));
        } else {
            page.field(0, key, format_args!("{} bytes", length(value)));
        }
    }
    page
}

/// How many bytes a base64 text stands for.
pub fn length(value: &Value) -> usize {
    let text = fields::plain(value);
    let digits = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    digits.clone().filter(|byte| *byte != b'=').count() * 6 / 8
}

fn decoded(value: &Value) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(fields::plain(value)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_bytes() {
        for (text, bytes) in [("", 0), ("YQ==", 1), ("YWI=", 2), ("YWJj", 3)] {
            assert_eq!(length(&text.into()), bytes);
        }
    }
}
