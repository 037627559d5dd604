//! JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

/// Applies a merge patch: null removes, objects merge, everything else replaces.
pub fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            apply(map.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// The patch that makes one object of another; `{}` where they are equal.
pub fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before @ Value::Object(_)) if value.is_object() => {
                patch.insert(key.clone(), diff(before, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// The patch of a three-way merge: what was last applied and is no longer wanted goes, what is wanted comes, and what
/// others changed stays.
pub fn three_way(original: &Value, modified: &Value, current: &Value) -> Value {
    let mut patch = only_deletions(&diff(original, modified));
    overlay(&mut patch, without_deletions(diff(current, modified)));
    patch
}

fn only_deletions(patch: &Value) -> Value {
    let Value::Object(map) = patch else { return Value::Object(Map::new()) };
    let kept = map.iter().filter_map(|(key, value)| match value {
        Value::Null => Some((key.clone(), Value::Null)),
        Value::Object(_) => Some((key.clone(), only_deletions(value))).filter(|(_, v)| v != &Value::Object(Map::new())),
        _ => None,
    });
    Value::Object(kept.collect())
}

fn without_deletions(patch: Value) -> Value {
    let Value::Object(map) = patch else { return patch };
    let kept = map.into_iter().filter(|(_, value)| !value.is_null()).filter_map(|(key, value)| match value {
        Value::Object(below) if below.is_empty() => Some((key, Value::Object(below))),
        value @ Value::Object(_) => {
            Some((key, without_deletions(value))).filter(|(_, value)| value != &Value::Object(Map::new()))
        }
        value => Some((key, value)),
    });
    Value::Object(kept.collect())
}

/// Puts one patch over another, keeping its nulls.
fn overlay(patch: &mut Value, over: Value) {
    match (patch, over) {
        (Value::Object(map), Value::Object(over)) => {
            for (key, value) in over {
                match map.get_mut(&key) {
                    Some(below @ Value::Object(_)) if value.is_object() => overlay(below, value),
                    _ => {
                        map.insert(key, value);
                    }
                }
            }
        }
        (patch, over) => *patch = over,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cases_of_the_rfc_hold() {
        for (target, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!([1]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        ] {
            let mut got = target.clone();
            apply(&mut got, &patch);
            assert_eq!(got, want, "{target} {patch}");
        }
    }

    #[test]
    fn three_ways_keep_what_others_set() {
        let original = json!({"a": 1, "b": {"x": 1, "y": 1}});
        let modified = json!({"b": {"x": 2}, "c": 3});
        let current = json!({"a": 1, "b": {"x": 1, "y": 1, "theirs": 1}, "theirs": 2});
        let patch = three_way(&original, &modified, &current);
        assert_eq!(patch, json!({"a": null, "b": {"x": 2, "y": null}, "c": 3}));
        let mut got = current;
        apply(&mut got, &patch);
        assert_eq!(got, json!({"b": {"x": 2, "theirs": 1}, "c": 3, "theirs": 2}));
    }
}
