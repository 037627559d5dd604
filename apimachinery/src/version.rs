//! The order of API versions: general availability before beta before alpha, then the higher number, then everything else by name.
//!
//! "Versions in CustomResourceDefinitions" in Kubernetes' documentation, version priority.

use std::cmp::{Ordering, Reverse};

/// Stability and numbers of a version such as `v1beta2`; none for names of another form.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, stage) = rest.split_at(digits);
    let (stability, minor) = match stage {
        "" => (2, "0"),
        _ => stage
            .strip_prefix("beta")
            .map(|minor| (1, minor))
            .or_else(|| stage.strip_prefix("alpha").map(|minor| (0, minor)))?,
    };
    Some((stability, major.parse().ok()?, minor.parse().ok()?))
}

/// Compares by priority: the greater of two versions is the one to prefer.
pub fn compare(a: &str, b: &str) -> Ordering {
    // A version of no known form is less than all that have one; `None` is less than `Some`.
    parse(a).cmp(&parse(b)).then_with(|| Reverse(a).cmp(&Reverse(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_documentation_lists_them() {
        let mut versions =
            ["foo10", "v1", "v12alpha1", "v10", "v11alpha2", "foo1", "v3beta1", "v11beta2", "v2", "v10beta3"];
        versions.sort_by(|a, b| compare(b, a));
        let expected =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        assert_eq!(versions, expected);
    }
}
