//! Who sets what, in the words of messages.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::object::{containers, items, text};

/// Quoted, separated by commas.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// One or several of something.
pub(super) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// The containers that a condition holds for.
pub(super) struct Named<'a>(pub(super) Vec<&'a str>);

impl<'a> Named<'a> {
    pub(super) fn of(spec: &'a Value, holds: impl Fn(&Value) -> bool) -> Self {
        Named(containers(spec).filter(|c| holds(c)).map(|c| text(c, "/name")).collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// `container "a"`, `containers "a", "b"`; none if there are none.
    pub(super) fn shown(&self) -> Option<String> {
        let noun = plural(self.count(), "container", "containers");
        (!self.0.is_empty()).then(|| format!("{noun} {}", quoted(self.0.iter().copied())))
    }
}

/// The pod, then its containers, for whose security context a condition holds: `pod and container "a"`.
pub(super) fn setters(spec: &Value, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    let own = |owner: &Value| owner.get("securityContext").is_some_and(|context| context.is_object() && holds(context));
    let pod = own(spec).then(|| "pod".to_owned());
    pod.into_iter().chain(Named::of(spec, own).shown()).collect()
}

/// The security contexts of the pod and of its containers.
pub(super) fn contexts(spec: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(spec).chain(containers(spec)).filter_map(|owner| owner.get("securityContext"))
}

/// The texts at a pointer of all security contexts that a condition holds for, sorted.
pub(super) fn values<'a>(spec: &'a Value, pointer: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
    contexts(spec).filter_map(|context| context.pointer(pointer)?.as_str()).filter(|value| wanted(value)).collect()
}

/// The strings of a list.
pub(super) fn strings<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    items(value, pointer).iter().filter_map(Value::as_str)
}

pub(super) fn is_true(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// Whether the users of the pod are none of the node's: some rules are of no use then (KEP-127).
pub(super) fn has_own_users(spec: &Value) -> bool {
    spec.get("hostUsers").and_then(Value::as_bool) == Some(false)
}
