//! Integers that may be percentages.

use crate::node::Node;

/// The number of a percentage such as `25%`.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

/// At least zero, or a percentage. An absent value is zero.
pub fn int_or_percent(node: Node<'_>) {
    if node.value.is_string() {
        if percent(node.str()).is_none() {
            node.invalid(
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%')",
            );
        }
    } else {
        node.non_negative();
    }
}

/// No percentage above 100.
pub fn at_most_all(node: Node<'_>) {
    if percent(node.str()).is_some_and(|p| p > 100) {
        node.invalid("must not be greater than 100%");
    }
}

/// The number itself, or the percentage. A number in quotes counts as one, what is malformed as zero.
pub fn int_or_percent_value(node: Node<'_>) -> i64 {
    percent(node.str()).or_else(|| node.str().parse().ok()).unwrap_or_else(|| node.int())
}
