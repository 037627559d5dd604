//! The order of merged lists: what the patch names stands in the patch's order, and what only the server has is placed
//! among it where it stood before.

use std::borrow::Cow;

use serde_json::Value;

#[derive(Clone, Copy)]
pub(super) struct Ordering<'a> {
    /// The items the patch names, in its order.
    pub wanted: &'a [Value],
    /// The items before, in their order.
    pub before: &'a [Value],
    pub merge_key: Option<&'a str>,
}

/// A key or a scalar as a text, for comparison: `80` and `"80"` name the same item.
pub(super) fn present(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

pub(super) fn key_text<'v>(item: &'v Value, merge_key: Option<&str>) -> Cow<'v, str> {
    match merge_key {
        Some(key) => item.get(key).map_or(Cow::Borrowed(""), present),
        None => present(item),
    }
}

impl Ordering<'_> {
    fn place(&self, list: &[Value], item: &Value) -> Option<usize> {
        let key = key_text(item, self.merge_key);
        list.iter().position(|other| key_text(other, self.merge_key) == key)
    }
}

pub(super) fn arrange(items: Vec<Value>, ordering: Ordering<'_>) -> Vec<Value> {
    let place_in = |list: &[Value], item: &Value| ordering.place(list, item).unwrap_or(usize::MAX);
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| ordering.place(ordering.wanted, item).is_some());
    named.sort_by_cached_key(|item| place_in(ordering.wanted, item));
    others.sort_by_cached_key(|item| place_in(ordering.before, item));
    interleave(others, named, &ordering)
}

/// Each of `others` comes before the first of `named` that stood behind it.
fn interleave(others: Vec<Value>, named: Vec<Value>, ordering: &Ordering<'_>) -> Vec<Value> {
    let mut result = Vec::with_capacity(others.len() + named.len());
    let (mut others, mut named) = (others.into_iter().peekable(), named.into_iter().peekable());
    loop {
        let first = match (others.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => others.next(),
            (None, Some(_)) => named.next(),
            (Some(other), Some(name)) => {
                let places = ordering.place(ordering.before, other).zip(ordering.place(ordering.before, name));
                if places.is_some_and(|(other, name)| other < name) { others.next() } else { named.next() }
            }
        };
        result.extend(first);
    }
}
