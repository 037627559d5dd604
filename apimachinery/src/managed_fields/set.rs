//! Sets of fields, as `managedFields` holds them (FieldsV1).
//!
//! A path element is kept as it is written there: `f:name` a field, `k:{"name":"c"}` an item by its keys, `v:"x"` an item by its
//! value, `i:0` an item by its place. KEP-555, and the API reference of `FieldsV1`.

use serde_json::{Map, Value};

/// A set of paths. Sets are small, and made in order more often than searched: a sorted list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    nodes: Vec<(String, Node)>,
}

/// What a set has at and below one path element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub member: bool,
    pub below: Set,
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    fn join(&mut self, other: Node) {
        self.member |= other.member;
        self.below = std::mem::take(&mut self.below).union(other.below);
    }
}

/// What is not a set of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a set of fields: {0}")]
pub struct DecodeError(String);

impl Set {
    /// A set of paths of fields, each written with dots: `metadata.labels`.
    pub fn of_fields(paths: &[&str]) -> Set {
        let mut set = Set::default();
        for path in paths {
            let elements: Vec<String> = path.split('.').map(|name| format!("f:{name}")).collect();
            set.insert(&elements);
        }
        set
    }

    /// Reads FieldsV1.
    ///
    /// # Errors
    /// What is not in that form.
    pub fn decode(value: &Value) -> Result<Set, DecodeError> {
        let Value::Object(map) = value else { return Err(DecodeError(value.to_string())) };
        let mut set = Set::default();
        for (key, below) in map.iter().filter(|(key, _)| *key != ".") {
            let (kind, rest) = key.split_once(':').ok_or_else(|| DecodeError(key.clone()))?;
            let key = match kind {
                "f" => key.clone(),
                "i" => rest.parse::<i64>().map(|_| key.clone()).map_err(|_| DecodeError(key.clone()))?,
                // Written anew, so that equal elements are equal texts.
                "k" | "v" => {
                    let value: Value = serde_json::from_str(rest).map_err(|_| DecodeError(key.clone()))?;
                    format!("{kind}:{value}")
                }
                _ => return Err(DecodeError(key.clone())),
            };
            let member = below.as_object().is_some_and(|map| map.is_empty() || map.contains_key("."));
            let below = Set::decode(below)?;
            let node = Node { member, below };
            if !node.is_empty() {
                set.put(key, node);
            }
        }
        Ok(set)
    }

    /// Writes FieldsV1.
    pub fn encode(self) -> Value {
        let mut map = Map::new();
        for (key, node) in self.nodes {
            let mut below = node.below.encode();
            if let Value::Object(below) = &mut below
                && node.member
                && !below.is_empty()
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(key, below);
        }
        Value::Object(map)
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The elements in order, with what there is at and below each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(element, node)| (element.as_str(), node))
    }

    fn place(&self, element: &str) -> Result<usize, usize> {
        match self.nodes.last() {
            Some((last, _)) if last.as_str() < element => Err(self.nodes.len()),
            None => Err(0),
            _ => self.nodes.binary_search_by(|(key, _)| key.as_str().cmp(element)),
        }
    }

    pub(super) fn get(&self, element: &str) -> Option<&Node> {
        self.place(element).ok().map(|at| &self.nodes[at].1)
    }

    pub(super) fn node(&mut self, element: &str) -> &mut Node {
        let at = self.place(element).unwrap_or_else(|at| {
            self.nodes.insert(at, (element.to_owned(), Node::default()));
            at
        });
        &mut self.nodes[at].1
    }

    /// Adds an element, or what there is at and below it.
    pub(super) fn put(&mut self, element: String, node: Node) {
        match self.place(&element) {
            Ok(at) => self.nodes[at].1.join(node),
            Err(at) => self.nodes.insert(at, (element, node)),
        }
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.node(first);
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Whether the path is in the set.
    pub fn has(&self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(node) = self.get(first) else { return false };
        if rest.is_empty() { node.member } else { node.below.has(rest) }
    }

    /// All paths of either.
    #[must_use]
    pub fn union(mut self, other: Set) -> Set {
        if self.is_empty() {
            return other;
        }
        for (element, node) in other.nodes {
            self.put(element, node);
        }
        self
    }

    fn combine(&self, other: &Set, with: impl Fn(&Node, Option<&Node>) -> Node) -> Set {
        let nodes = self.nodes.iter().filter_map(|(key, node)| {
            let combined = with(node, other.get(key));
            (!combined.is_empty()).then(|| (key.clone(), combined))
        });
        Set { nodes: nodes.collect() }
    }

    /// Whether the sets have a path in common.
    pub fn intersects(&self, other: &Set) -> bool {
        let (few, many) = if self.nodes.len() < other.nodes.len() { (self, other) } else { (other, self) };
        few.nodes.iter().any(|(key, node)| {
            let other = many.get(key);
            other.is_some_and(|other| (node.member && other.member) || node.below.intersects(&other.below))
        })
    }

    /// Changes every node that the other set has too, and drops those that nothing is left of.
    fn reduce(&mut self, other: &Set, change: &impl Fn(&mut Node, &Node)) {
        if !other.is_empty() {
            self.nodes.retain_mut(|(key, node)| {
                let Some(taken) = other.get(key) else { return true };
                change(node, taken);
                !node.is_empty()
            });
        }
    }

    /// Takes away the paths that the other has.
    pub fn subtract(&mut self, other: &Set) {
        self.reduce(other, &|node, taken| {
            node.member &= !taken.member;
            node.below.subtract(&taken.below);
        });
    }

    /// Takes away the paths that the other has, and those below them.
    pub fn subtract_trees(&mut self, other: &Set) {
        self.reduce(other, &|node, taken| {
            if taken.member {
                *node = Node::default();
            } else {
                node.below.subtract_trees(&taken.below);
            }
        });
    }

    /// The paths of this set that the other does not have.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(other, |node, other| match other {
            None => node.clone(),
            Some(other) => Node { member: node.member && !other.member, below: node.below.difference(&other.below) },
        })
    }

    /// The paths of this set that are neither in the other nor below a path of the other.
    #[must_use]
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let mut rest = self.clone();
        rest.subtract_trees(other);
        rest
    }

    /// The paths that both have.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |node, other| match other {
            None => Node::default(),
            Some(other) => Node { member: node.member && other.member, below: node.below.intersection(&other.below) },
        })
    }

    /// Every path, printed: `.spec.ports[port=80,protocol="TCP"].name`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.print("", &mut paths);
        paths
    }

    fn print(&self, prefix: &str, paths: &mut Vec<String>) {
        for (key, node) in &self.nodes {
            let path = format!("{prefix}{}", printed(key));
            if node.member {
                paths.push(path.clone());
            }
            node.below.print(&path, paths);
        }
    }
}

/// A path element in a message.
pub(super) fn printed(element: &str) -> String {
    let (kind, rest) = element.split_once(':').unwrap_or(("f", element));
    match kind {
        "f" => format!(".{rest}"),
        "i" => format!("[{rest}]"),
        "v" => format!("[={rest}]"),
        _ => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> Set {
        Set::decode(&value).expect("a set")
    }

    #[test]
    fn sets_are_read_and_written() {
        let value = json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:l": {"k:{\"name\":\"x\",\"port\":80}": {"f:d": {}}, "v:\"s\"": {}, "i:0": {}}});
        assert_eq!(set(value.clone()).encode(), value);
        assert_eq!(set(value).paths(), [".a", ".b", ".b.c", ".l[0]", ".l[name=\"x\",port=80].d", ".l[=\"s\"]"]);
        for bad in [json!([]), json!({"x": {}}), json!({"q:a": {}}), json!({"k:{": {}}), json!({"f:a": 1})] {
            assert!(Set::decode(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_combine() {
        let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}));
        let b = set(json!({"f:b": {"f:c": {}}, "f:e": {}}));
        assert_eq!(a.difference(&b).encode(), json!({"f:a": {}, "f:b": {".": {}, "f:d": {}}}));
        assert_eq!(a.intersection(&b).encode(), json!({"f:b": {"f:c": {}}}));
        assert_eq!(b.recursive_difference(&set(json!({"f:b": {}}))).encode(), json!({"f:e": {}}));
        assert!(a.intersects(&b) && !a.intersects(&set(json!({"f:b": {"f:x": {}}, "f:e": {}}))));
        let mut rest = a.clone();
        rest.subtract(&b);
        assert_eq!(rest, a.difference(&b));
        assert_eq!(a.union(b).encode(), json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}, "f:e": {}}));
    }
}
