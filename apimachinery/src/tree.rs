//! Reading objects that are plain JSON, by paths such as `/spec/nodeName`.
//!
//! A path names members of objects. Unlike in a JSON pointer nothing in it is escaped, so that to follow it allocates nothing:
//! this is on the way of every request.

use serde_json::Value;

/// What is at a path, if anything.
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('/').skip(1).try_fold(value, |value, member| value.get(member))
}

/// The text at a path; empty if there is none.
pub fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The items of the list at a path; none if there is no list.
pub fn items<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_or_of_another_type_is_empty() {
        let pod = json!({"spec": {"nodeName": "n", "containers": [{"name": "c"}]}});
        assert_eq!((text(&pod, "/spec/nodeName"), items(&pod, "/spec/containers").len()), ("n", 1));
        assert_eq!((text(&pod, "/spec/containers"), items(&pod, "/spec/nodeName").len()), ("", 0));
        assert_eq!((at(&pod, "/spec/absent/further"), at(&pod, "")), (None, Some(&pod)));
    }
}
