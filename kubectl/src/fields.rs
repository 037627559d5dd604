//! Reading objects of which nothing is sure: a path that leads nowhere is null, empty or zero.

use serde_json::{Map, Value};

/// Fields of an object by path: `status.podIP`. Keys that hold dots are indexed by themselves.
pub trait Fields {
    /// What the path leads to; null where it leads nowhere.
    fn at(&self, path: &str) -> &Value;

    /// A string; empty where there is none.
    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    /// A list; empty where there is none.
    fn list(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }

    /// A map; `None` where there is none or nothing in it.
    fn map(&self, path: &str) -> Option<&Map<String, Value>> {
        self.at(path).as_object().filter(|map| !map.is_empty())
    }

    /// A whole number; 0 where there is none.
    fn int(&self, path: &str) -> i64 {
        self.at(path).as_i64().unwrap_or(0)
    }

    /// A truth value; false where there is none.
    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or(false)
    }

    /// Whether there is anything.
    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }

    /// The strings of a list.
    fn texts(&self, path: &str) -> Vec<&str> {
        self.list(path).iter().filter_map(Value::as_str).collect()
    }
}

impl Fields for Value {
    fn at(&self, path: &str) -> &Value {
        path.split('.').filter(|key| !key.is_empty()).fold(self, |value, key| &value[key])
    }
}

/// The object's name.
pub fn name(object: &Value) -> &str {
    object.text("metadata.name")
}

/// The object's namespace; empty for one of the cluster.
pub fn namespace(object: &Value) -> &str {
    object.text("metadata.namespace")
}

/// A scalar as Go prints it: text without quotes, nothing for null.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text, or another where it is empty.
pub fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_that_lead_nowhere_are_empty() {
        let object = json!({"a": {"b": [1, "x"], "t": true}, "n": 5});
        assert_eq!(object.list("a.b").len(), 2);
        assert_eq!(object.texts("a.b"), ["x"]);
        assert_eq!((object.int("n"), object.int("a.b.c")), (5, 0));
        assert!(object.flag("a.t") && !object.has("a.x.y") && object.text("n").is_empty());
    }
}
