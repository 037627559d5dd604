//! Labels in compact form: interned strings in one sorted slice.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

/// An interned string: equal strings that are alive at the same time usually share one allocation.
pub type Str = Arc<str>;

/// The size from which the interner looks for strings that nobody holds any more.
const FIRST_SWEEP: usize = 1024;

static INTERNER: LazyLock<Mutex<Interner>> = LazyLock::new(|| Mutex::new(Interner::default()));

struct Interner {
    strings: HashSet<Str>,
    sweep_at: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self { strings: HashSet::new(), sweep_at: FIRST_SWEEP }
    }
}

impl Interner {
    fn intern(&mut self, text: &str) -> Str {
        if let Some(found) = self.strings.get(text) {
            return found.clone();
        }
        if self.strings.len() >= self.sweep_at {
            self.strings.retain(|s| Arc::strong_count(s) > 1);
            self.sweep_at = (self.strings.len() * 2).max(FIRST_SWEEP);
        }
        let fresh: Str = text.into();
        self.strings.insert(fresh.clone());
        fresh
    }
}

/// The shared copy of `text`. Strings that are no longer used are let go when the table has doubled.
pub fn intern(text: &str) -> Str {
    INTERNER.lock().intern(text)
}

/// Whether two interned strings are equal; one comparison of pointers in the common case.
#[inline]
pub fn same(a: &Str, b: &Str) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// A set of labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Str, Str)]>);

impl Labels {
    pub fn new(map: Option<&BTreeMap<String, String>>) -> Self {
        Self(map.into_iter().flatten().map(|(k, v)| (intern(k), intern(v))).collect())
    }

    pub fn get(&self, key: &str) -> Option<&Str> {
        // Objects have a handful of labels: a scan over the slice is as fast as a search.
        self.0.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Str, Str)> {
        self.0.iter()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Labels {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let sorted: BTreeMap<&str, &str> = pairs.into_iter().collect();
        Self(sorted.into_iter().map(|(k, v)| (intern(k), intern(v))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_one_allocation() {
        assert!(Arc::ptr_eq(&intern("shared-label"), &intern("shared-label")));
    }

    #[test]
    fn strings_nobody_holds_are_let_go() {
        let mut interner = Interner::default();
        let kept = interner.intern("kept");
        for i in 0..FIRST_SWEEP {
            interner.intern(&format!("gone-{i}"));
        }
        assert!(interner.strings.len() <= 2, "{} strings are left", interner.strings.len());
        assert!(Arc::ptr_eq(&kept, &interner.intern("kept")));
    }

    #[test]
    fn a_label_is_found_by_its_key() {
        let labels = Labels::from([("b", "2"), ("a", "1")]);
        assert_eq!(labels.get("b").map(|v| &**v), Some("2"));
        assert!(!labels.has("c"));
    }
}
