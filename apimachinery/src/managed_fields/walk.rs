//! Walking values along the schema: the fields they have, how two differ, what one makes of another.
//!
//! These are the operations of structured merge: KEP-555.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{Node, Set, printed};
use super::shape::{Atom, Shape, as_list, as_map};

fn field(key: &str) -> String {
    format!("f:{key}")
}

/// An item's path element; its place, where it has no other.
fn element_of(atom: Atom<'_>, item: &Value, place: usize) -> String {
    atom.element(item).unwrap_or_else(|_| format!("i:{place}"))
}

/// Every field that the value sets.
pub(super) fn fields_of(shape: Shape<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    collect(shape, value, &mut set);
    set
}

/// Adds what is below the value, and says whether the value itself is a member.
fn collect(shape: Shape<'_>, value: &Value, set: &mut Set) -> bool {
    let atom = shape.atom(Some(value));
    match (atom, value) {
        (Atom::Leaf, _) => return true,
        (Atom::Keyed(..) | Atom::Set(_), Value::Array(items)) => {
            let elements: Vec<String> = items.iter().enumerate().map(|(i, item)| element_of(atom, item, i)).collect();
            for (place, item) in items.iter().enumerate() {
                let node = set.node(&elements[place]);
                node.member = true;
                if elements.iter().filter(|other| **other == elements[place]).count() == 1 {
                    collect(atom.item(), item, &mut node.below);
                }
            }
        }
        (Atom::Struct(_) | Atom::Map(_) | Atom::Free, Value::Object(map)) => {
            for (key, value) in map {
                let (shape, named) = atom.entry(key);
                let mut below = Set::default();
                let leaf = collect(shape, value, &mut below);
                let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let member = leaf || hollow || !named;
                if member || !below.is_empty() {
                    set.put(field(key), Node { member, below });
                }
            }
        }
        _ => {}
    }
    false
}

/// Checks that a value can be told apart item by item: keys are there, and no item stands twice.
///
/// # Errors
/// The first place where it cannot, with its path.
pub(super) fn check(shape: Shape<'_>, value: &Value, path: &str) -> Result<(), String> {
    let atom = shape.atom(Some(value));
    match (atom, value) {
        (Atom::Keyed(..) | Atom::Set(_), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for item in items {
                let element = atom.element(item).map_err(|error| format!("{path}: {error}"))?;
                let below = format!("{path}{}", printed(&element));
                if !seen.insert(element.clone()) {
                    return Err(format!("{path}: duplicate entries for key {}", printed(&element)));
                }
                check(atom.item(), item, &below)?;
            }
            Ok(())
        }
        (Atom::Struct(_) | Atom::Map(_) | Atom::Free, Value::Object(map)) => map.iter().try_for_each(|(key, value)| {
            let below = format!("{path}.{key}");
            if let Atom::Struct(ty) = atom
                && ty.field(key).is_none()
                && !ty.preserve_unknown
            {
                return Err(format!("{below}: field not declared in schema"));
            }
            check(atom.entry(key).0, value, &below)
        }),
        _ => Ok(()),
    }
}

/// The lists, maps and structs in a value that merge only as a whole.
pub(super) fn atomics(shape: Shape<'_>, value: &Value, path: &str) -> Vec<String> {
    let atom = shape.atom(Some(value));
    match (atom, value) {
        (Atom::Leaf, Value::Object(_) | Value::Array(_)) => vec![path.to_owned()],
        (Atom::Struct(_) | Atom::Map(_), Value::Object(map)) => {
            let below = |(key, value): (&String, &Value)| atomics(atom.entry(key).0, value, &format!("{path}.{key}"));
            map.iter().flat_map(below).collect()
        }
        (Atom::Keyed(..) | Atom::Set(_), Value::Array(items)) => {
            let below = |(i, item): (usize, &Value)| atomics(atom.item(), item, &format!("{path}[{i}]"));
            items.iter().enumerate().flat_map(below).collect()
        }
        _ => Vec::new(),
    }
}

/// How two values differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    /// Without what is at or below the paths of a set.
    pub(super) fn without(mut self, ignored: &Set) -> Self {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.subtract_trees(ignored);
        }
        self
    }
}

/// How two values differ, at and below one path.
#[derive(Default)]
struct Difference {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Difference {
    /// The value itself is there in one state only, or is another one.
    fn mark(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.added.member = true,
            (_, None) => self.removed.member = true,
            _ => self.modified.member = true,
        }
    }

    /// Takes the difference at an element in.
    fn put(&mut self, element: impl Fn() -> String, below: Difference) {
        let Difference { added, modified, removed } = below;
        for (own, below) in [(&mut self.added, added), (&mut self.modified, modified), (&mut self.removed, removed)] {
            if !below.is_empty() {
                own.below.put(element(), below);
            }
        }
    }
}

pub(super) fn compare(shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
    let Difference { added, modified, removed } = difference(shape, Some(old), Some(new));
    Comparison { added: added.below, modified: modified.below, removed: removed.below }
}

fn difference(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Difference {
    let mut out = Difference::default();
    if old == new {
        return out;
    }
    let atom = shape.atom(new.or(old));
    let other = shape.atom(old.or(new));
    match atom {
        Atom::Keyed(..) | Atom::Set(_) if as_list(old).is_some() || as_list(new).is_some() => {
            compare_items(atom, as_list(old).unwrap_or_default(), as_list(new).unwrap_or_default(), &mut out);
        }
        Atom::Struct(_) | Atom::Map(_) | Atom::Free
            if (as_map(old).is_some() || as_map(new).is_some()) && !matches!(other, Atom::Leaf) =>
        {
            compare_entries(atom, as_map(old), as_map(new), &mut out);
        }
        _ => {
            out.mark(old, new);
            return out;
        }
    }
    if old.is_none() || new.is_none() {
        out.mark(old, new);
    }
    out
}

fn compare_entries(
    atom: Atom<'_>,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    out: &mut Difference,
) {
    let mut one = |key: &String, before: Option<&Value>, after: Option<&Value>| {
        out.put(|| field(key), difference(atom.entry(key).0, before, after));
    };
    for (key, after) in new.into_iter().flatten() {
        one(key, old.and_then(|map| map.get(key)), Some(after));
    }
    for (key, before) in old.into_iter().flatten().filter(|(key, _)| new.is_none_or(|map| !map.contains_key(*key))) {
        one(key, Some(before), None);
    }
}

fn index<'v>(atom: Atom<'_>, items: &'v [Value]) -> BTreeMap<String, Vec<&'v Value>> {
    let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for (place, item) in items.iter().enumerate() {
        found.entry(element_of(atom, item, place)).or_default().push(item);
    }
    found
}

fn first<'v>(list: &BTreeMap<String, Vec<&'v Value>>, element: &str) -> Option<&'v Value> {
    list.get(element).map(|items| items[0])
}

fn compare_items(atom: Atom<'_>, old: &[Value], new: &[Value], out: &mut Difference) {
    let (before, after) = (index(atom, old), index(atom, new));
    let elements: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for element in elements {
        let of = |list: &BTreeMap<String, Vec<&Value>>| list.get(element).map_or(0, Vec::len);
        let (old, new) = (first(&before, element), first(&after, element));
        let below = if of(&before) > 1 || of(&after) > 1 {
            // Items that stand twice are owned together.
            let mut below = Difference::default();
            if before.get(element) != after.get(element) {
                below.mark(old, new);
            }
            below
        } else {
            difference(atom.item(), old, new)
        };
        out.put(|| element.clone(), below);
    }
}

/// The live value with the applied one laid over it. `None` where nothing is left.
pub(super) fn merge(shape: Shape<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (live, applied) = match (live, applied) {
        (live, None) => return live.cloned(),
        (None, applied) => return applied.cloned(),
        (Some(live), Some(applied)) => (live, applied),
    };
    let atom = shape.atom(Some(applied));
    let kind_changed = matches!(shape.atom(Some(live)), Atom::Leaf) != matches!(atom, Atom::Leaf);
    match atom {
        Atom::Keyed(..) | Atom::Set(_) => {
            let lists = (as_list(Some(live)), as_list(Some(applied)));
            match lists {
                (None, None) => Some(applied.clone()),
                (live, applied) => {
                    let items = merge_items(atom, live.unwrap_or_default(), applied.unwrap_or_default());
                    (!items.is_empty()).then_some(Value::Array(items))
                }
            }
        }
        Atom::Struct(_) | Atom::Map(_) | Atom::Free if !kind_changed => {
            let (before, over) = (as_map(Some(live)), as_map(Some(applied)));
            if before.is_none() && over.is_none() {
                return Some(applied.clone());
            }
            let mut map = Map::new();
            let keys: BTreeSet<&String> = before.into_iter().chain(over).flat_map(|map| map.keys()).collect();
            for key in keys {
                let (before, over) = (before.and_then(|map| map.get(key)), over.and_then(|map| map.get(key)));
                if let Some(merged) = merge(atom.entry(key).0, before, over) {
                    map.insert(key.clone(), merged);
                }
            }
            (!map.is_empty()).then_some(Value::Object(map))
        }
        _ => Some(applied.clone()),
    }
}

/// Merges two lists, keeping the order of each where both can be kept, and the applied one's where not.
fn merge_items(atom: Atom<'_>, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let name = |items: &[Value]| -> Vec<String> {
        items.iter().enumerate().map(|(i, item)| element_of(atom, item, i)).collect()
    };
    let (left, right) = (name(live), name(applied));
    let first = |names: &[String], items: &[Value]| -> BTreeMap<String, usize> {
        names.iter().enumerate().take(items.len()).rev().map(|(i, name)| (name.clone(), i)).collect()
    };
    let (in_left, in_right) = (first(&left, live), first(&right, applied));
    let together = |element: &String| -> Option<Value> {
        let live = in_left.get(element).map(|i| &live[*i]);
        let applied = in_right.get(element).map(|i| &applied[*i]);
        merge(atom.item(), live, applied)
    };
    let mut shared = right.iter().filter(|element| in_left.contains_key(*element));
    let mut next_shared = shared.next();
    let mut merged: BTreeSet<&String> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                merged.insert(&right[r]);
                out.extend(together(&right[r]));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if in_right.contains_key(&left[l]) && next_shared.is_some_and(|next| *next != left[l]) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !in_right.contains_key(&left[l]) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            if merged.contains(&left[l]) {
                l += 1;
            }
        }
        if r < right.len() {
            merged.insert(&right[r]);
            out.extend(together(&right[r]));
            if next_shared == Some(&right[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    out
}

/// The value without the fields of a set. What loses its last entry stays, empty.
pub(super) fn remove(shape: Shape<'_>, value: Value, removed: &Set) -> Value {
    if removed.is_empty() {
        return value;
    }
    let atom = shape.atom(Some(&value));
    match (atom, value) {
        (Atom::Keyed(..) | Atom::Set(_), Value::Array(items)) => {
            let kept: Vec<Value> = items
                .into_iter()
                .enumerate()
                .filter_map(|(place, item)| match removed.get(&element_of(atom, &item, place)) {
                    Some(node) if node.member => None,
                    Some(node) => Some(remove(atom.item(), item, &node.below)),
                    None => Some(item),
                })
                .collect();
            Value::Array(kept)
        }
        (Atom::Struct(_) | Atom::Map(_) | Atom::Free, Value::Object(map)) => {
            let kept: Map<String, Value> = map
                .into_iter()
                .filter_map(|(key, value)| match removed.get(&field(&key)) {
                    Some(node) if node.member => None,
                    Some(node) => {
                        let below = remove(atom.entry(&key).0, value, &node.below);
                        Some((key, below))
                    }
                    None => Some((key, value)),
                })
                .collect();
            Value::Object(kept)
        }
        (_, value) => value,
    }
}

/// The set, and every field the schema names that has something below it: so that an object goes with its last field.
pub(super) fn with_named_fields(shape: Shape<'_>, set: &Set) -> Set {
    let atom = shape.atom(None);
    let mut out = Set::default();
    for (element, node) in set.iter() {
        let (below, named) = atom.below(element);
        let copy = out.node(element);
        copy.below = with_named_fields(below, &node.below);
        copy.member = node.member || (named && !node.below.is_empty());
    }
    out
}
