//! One nftables transaction, and its text for `nft -f -`: the order of the commands is what makes it valid.

use crate::ruleset::{Key, Value};
use crate::view::Family;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// The name of the proxy's table in each family.
pub const TABLE: &str = "kube-proxy";

/// How many elements stand in one command: bounds the memory that nft needs to parse it.
const ELEMENTS_PER_COMMAND: usize = 1000;

/// An object that is not in the kernel as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Arc<Key>,
    pub before: Option<Arc<Value>>,
    pub after: Option<Arc<Value>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Families whose table is replaced as a whole, whatever was in it.
    rebuilt: Vec<Family>,
    changes: Vec<Change>,
}

impl Transaction {
    pub fn update(changes: Vec<Change>) -> Self {
        Self { rebuilt: Vec::new(), changes }
    }

    pub fn rebuild(families: Vec<Family>, changes: Vec<Change>) -> Self {
        Self { rebuilt: families, changes }
    }

    pub fn is_empty(&self) -> bool {
        self.rebuilt.is_empty() && self.changes.is_empty()
    }

    /// How many objects it touches.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The commands. Chains exist before anything refers to them, and nothing refers to a chain or set when it goes.
    pub fn render(&self) -> String {
        let mut script = Script::default();
        self.rebuilt.iter().for_each(|family| script.replace_table(*family));
        self.changes.iter().for_each(|c| script.declare(c));
        self.changes.iter().for_each(|c| script.flush_chain(c));
        script.elements("delete", &self.changes, |c| c.before.as_deref(), false);
        script.elements("add", &self.changes, |c| c.after.as_deref(), true);
        self.changes.iter().for_each(|c| script.fill_chain(c));
        self.changes.iter().for_each(|c| script.drop_chain(c));
        self.changes.iter().for_each(|c| script.drop_set(c));
        script.text
    }
}

/// Commands that remove the proxy's tables, whether they exist or not.
pub fn remove_tables(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let family = family.nft();
        text.push_str(&format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n"));
    }
    text
}

#[derive(Default)]
struct Script {
    text: String,
}

impl Script {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        self.text.write_fmt(arguments).expect("a String takes all text");
        self.text.push('\n');
    }

    /// `add` first, because deleting a table that is not there is an error.
    fn replace_table(&mut self, family: Family) {
        let family = family.nft();
        self.line(format_args!("add table {family} {TABLE}"));
        self.line(format_args!("delete table {family} {TABLE}"));
        self.line(format_args!("add table {family} {TABLE} {{ comment \"rules of kube-proxy\" ; }}"));
    }

    fn declare(&mut self, change: &Change) {
        let (None, Some(after)) = (&change.before, &change.after) else { return };
        let family = change.key.family().nft();
        match (&*change.key, &**after) {
            (Key::Chain(_, name), Value::Chain { hook: Some(hook), .. }) => {
                self.line(format_args!("add chain {family} {TABLE} {name} {{ {hook} ; }}"));
            }
            (Key::Chain(_, name), _) => self.line(format_args!("add chain {family} {TABLE} {name}")),
            (Key::Set(_, name), Value::Set { map, definition }) => {
                let kind = if *map { "map" } else { "set" };
                self.line(format_args!("add {kind} {family} {TABLE} {name} {{ {definition} ; }}"));
            }
            _ => {}
        }
    }

    fn flush_chain(&mut self, change: &Change) {
        if let (Key::Chain(family, name), Some(_)) = (&*change.key, &change.before) {
            self.line(format_args!("flush chain {} {TABLE} {name}", family.nft()));
        }
    }

    fn fill_chain(&mut self, change: &Change) {
        let (Key::Chain(family, name), Some(after)) = (&*change.key, &change.after) else { return };
        if let Value::Chain { rules, .. } = &**after {
            for rule in rules {
                self.line(format_args!("add rule {} {TABLE} {name} {rule}", family.nft()));
            }
        }
    }

    fn drop_chain(&mut self, change: &Change) {
        if let (Key::Chain(family, name), None) = (&*change.key, &change.after) {
            self.line(format_args!("delete chain {} {TABLE} {name}", family.nft()));
        }
    }

    fn drop_set(&mut self, change: &Change) {
        if let (Key::Set(family, name), None) = (&*change.key, &change.after) {
            self.line(format_args!("delete set {} {TABLE} {name}", family.nft()));
        }
    }

    /// One command per set and family, in pieces. `side` says if the element is there before or after.
    fn elements(&mut self, verb: &str, changes: &[Change], side: impl Fn(&Change) -> Option<&Value>, with_value: bool) {
        let mut by_set: BTreeMap<(Family, &str), Vec<(&str, &str)>> = BTreeMap::new();
        for change in changes {
            if let (Key::Element(family, set, key), Some(Value::Element(value))) = (&*change.key, side(change)) {
                by_set.entry((*family, set)).or_default().push((key, value));
            }
        }
        for ((family, set), elements) in by_set {
            for piece in elements.chunks(ELEMENTS_PER_COMMAND) {
                let listed = piece.iter().map(|(key, value)| match value.is_empty() || !with_value {
                    true => (*key).to_owned(),
                    false => format!("{key} : {value}"),
                });
                let listed = listed.collect::<Vec<_>>().join(", ");
                self.line(format_args!("{verb} element {} {TABLE} {set} {{ {listed} }}", family.nft()));
            }
        }
    }
}
