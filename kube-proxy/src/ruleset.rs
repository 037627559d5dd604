//! The nftables objects that are wanted, who wants them, and what differs from the kernel's.
//!
//! Everything in the table is an object with a key and a value. An owner (a Service, or the base) claims objects;
//! where two owners claim the same key with different values, the first in order wins, and the other takes over
//! when the first lets go. Nothing but the keys that an owner gained or lost is looked at when it changes.

use crate::transaction::{Change, Transaction};
use crate::view::{Family, ServiceName};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub type Name = Cow<'static, str>;

/// What an object is called, within the table of a family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Chain(Family, Name),
    /// A set or a map.
    Set(Family, Name),
    /// An element of a set or map: the set's name, and the key as nft writes it.
    Element(Family, Name, Box<str>),
}

impl Key {
    pub fn family(&self) -> Family {
        match self {
            Self::Chain(family, _) | Self::Set(family, _) | Self::Element(family, ..) => *family,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Chain {
        /// `type … hook … priority …` of a chain that the kernel calls.
        hook: Option<Name>,
        rules: Vec<String>,
    },
    /// A set's definition never changes under one name: where it could, the name says so.
    Set { map: bool, definition: String },
    /// The value of a map's element; empty for a set's.
    Element(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Base,
    Service(ServiceName),
}

pub type Objects = Vec<(Key, Value)>;

type Claims = Vec<(Arc<Owner>, Arc<Value>)>;

#[derive(Debug, Default)]
pub struct Ruleset {
    claims: HashMap<Arc<Key>, Claims>,
    owned: HashMap<Arc<Owner>, Vec<Arc<Key>>>,
    /// Keys that may differ from the kernel's, with what the kernel has.
    pending: BTreeMap<Arc<Key>, Option<Arc<Value>>>,
}

impl Ruleset {
    /// Makes `objects` all that `owner` wants. An empty list removes the owner.
    pub fn replace(&mut self, owner: &Owner, objects: Objects) {
        let owner = Arc::new(owner.clone());
        let before = self.owned.remove(&owner).unwrap_or_default();
        let mut wanted: HashMap<Key, Value> = objects.into_iter().collect();
        let mut kept = Vec::with_capacity(wanted.len());
        for key in before {
            match wanted.remove(&*key) {
                Some(value) => {
                    self.claim(&key, &owner, value);
                    kept.push(key);
                }
                None => self.release(&key, &owner),
            }
        }
        for (key, value) in wanted {
            let key = match self.claims.get_key_value(&key) {
                Some((known, _)) => known.clone(),
                None => Arc::new(key),
            };
            self.claim(&key, &owner, value);
            kept.push(key);
        }
        if !kept.is_empty() {
            kept.shrink_to_fit();
            self.owned.insert(owner, kept);
        }
    }

    /// What has to be sent so that the kernel has what is wanted. The kernel is taken to have it afterwards: if
    /// sending fails, `rebuild` is the way back.
    pub fn take_changes(&mut self) -> Transaction {
        let pending = std::mem::take(&mut self.pending);
        let changes = pending
            .into_iter()
            .filter_map(|(key, before)| {
                let after = self.claims.get(&key).and_then(effective);
                (before != after).then_some(Change { key, before, after })
            })
            .collect();
        Transaction::update(changes)
    }

    /// Everything, for tables that are replaced as a whole.
    pub fn rebuild(&mut self, families: &[Family]) -> Transaction {
        self.pending.clear();
        let mut all: Vec<Change> = self
            .claims
            .iter()
            .map(|(key, claims)| Change { key: key.clone(), before: None, after: effective(claims) })
            .collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Transaction::rebuild(families.to_vec(), all)
    }

    pub fn len(&self) -> usize {
        self.claims.len()
    }

    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    fn claim(&mut self, key: &Arc<Key>, owner: &Arc<Owner>, value: Value) {
        let claims = self.claims.entry(key.clone()).or_default();
        let before = effective(claims);
        match claims.binary_search_by(|(o, _)| o.cmp(owner)) {
            Ok(at) if *claims[at].1 == value => return,
            Ok(at) => claims[at].1 = Arc::new(value),
            Err(at) => {
                // Owners that agree share one value.
                let shared = claims.iter().find(|(_, v)| **v == value).map(|(_, v)| v.clone());
                claims.insert(at, (owner.clone(), shared.unwrap_or_else(|| Arc::new(value))));
            }
        }
        if effective(claims) != before {
            self.pending.entry(key.clone()).or_insert(before);
        }
    }

    fn release(&mut self, key: &Arc<Key>, owner: &Arc<Owner>) {
        let Some(claims) = self.claims.get_mut(key) else { return };
        let before = effective(claims);
        claims.retain(|(o, _)| o != owner);
        if effective(claims) != before {
            self.pending.entry(key.clone()).or_insert(before);
        }
        if self.claims.get(key).is_some_and(Vec::is_empty) {
            self.claims.remove(key);
        }
    }
}

fn effective(claims: &Claims) -> Option<Arc<Value>> {
    claims.first().map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests;
