//! The entries of `metadata.managedFields`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::set::{DecodeError, Set};

/// What a manager did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What tells managers apart. Appliers are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerKey {
    pub operation: Operation,
    pub manager: String,
    api_version: String,
    pub subresource: String,
}

impl ManagerKey {
    pub(super) fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        ManagerKey {
            operation,
            manager: manager.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// The manager in a message.
    pub(super) fn describe(&self, time: Option<&str>) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }
}

/// What a manager has.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub set: Set,
    pub api_version: String,
    pub time: Option<String>,
    /// The set as it was read, while it has not changed.
    written: Option<Value>,
}

impl Owner {
    pub(super) fn new(set: Set, api_version: &str, time: Option<String>) -> Self {
        Owner { set, api_version: api_version.to_owned(), time, written: None }
    }

    /// Takes paths away.
    pub(super) fn lose(&mut self, paths: &Set) {
        if self.set.intersects(paths) {
            self.set.subtract(paths);
            self.written = None;
        }
    }

    /// Adds paths.
    pub(super) fn gain(&mut self, paths: Set) {
        self.set = std::mem::take(&mut self.set).union(paths);
        self.written = None;
    }

    fn encode(&mut self) -> Option<Value> {
        if let Some(written) = self.written.take() {
            return Some(written);
        }
        let mut set = std::mem::take(&mut self.set);
        set.subtract(identity());
        (!set.is_empty()).then(|| set.encode())
    }
}

pub(super) type Managers = BTreeMap<ManagerKey, Owner>;

/// Reads entries. Those the server wrote itself are `trusted` to be in the form it writes.
pub(super) fn decode(entries: &[Value], trusted: bool) -> Result<Managers, DecodeError> {
    let mut managers = Managers::new();
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = if text("operation") == "Apply" { Operation::Apply } else { Operation::Update };
        let key = ManagerKey::new(text("manager"), operation, text("apiVersion"), text("subresource"));
        let set = entry.get("fieldsV1").map_or(Ok(Set::default()), Set::decode)?;
        let time = Some(text("time")).filter(|time| !time.is_empty()).map(str::to_owned);
        let written = entry.get("fieldsV1").filter(|_| trusted && !set.is_empty()).cloned();
        managers.insert(key, Owner { set, api_version: text("apiVersion").to_owned(), time, written });
    }
    Ok(managers)
}

/// What no manager owns: who the object is.
pub(super) fn identity() -> &'static Set {
    static IDENTITY: OnceLock<Set> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        Set::of_fields(&[
            "apiVersion",
            "kind",
            "metadata",
            "metadata.name",
            "metadata.namespace",
            "metadata.creationTimestamp",
            "metadata.selfLink",
            "metadata.uid",
            "metadata.clusterName",
            "metadata.generation",
            "metadata.managedFields",
            "metadata.resourceVersion",
        ])
    })
}

/// Sorted as Kubernetes sorts them: appliers first, then the oldest.
pub(super) fn encode(managers: Managers) -> Vec<Value> {
    let mut all: Vec<(ManagerKey, Owner, Value)> =
        managers.into_iter().filter_map(|(key, mut owner)| owner.encode().map(|fields| (key, owner, fields))).collect();
    all.sort_by(|(a, left, _), (b, right, _)| {
        (a.operation, &left.time, &a.manager, &left.api_version, &a.subresource).cmp(&(
            b.operation,
            &right.time,
            &b.manager,
            &right.api_version,
            &b.subresource,
        ))
    });
    all.into_iter().map(|(key, owner, fields)| entry(key, owner, fields)).collect()
}

fn entry(key: ManagerKey, owner: Owner, fields: Value) -> Value {
    let mut map = Map::new();
    let mut set = |name: &str, value: Value| map.insert(name.to_owned(), value);
    set("apiVersion", owner.api_version.into());
    set("fieldsType", "FieldsV1".into());
    set("fieldsV1", fields);
    set("manager", key.manager.into());
    set("operation", key.operation.as_str().into());
    if !key.subresource.is_empty() {
        set("subresource", key.subresource.into());
    }
    if let Some(time) = owner.time {
        set("time", time.into());
    }
    Value::Object(map)
}

/// As many entries of updates an object may have; older ones become one.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Joins the oldest updates of a version until there are few enough.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<(Option<String>, ManagerKey)> = managers
        .iter()
        .filter(|(key, _)| key.operation == Operation::Update)
        .map(|(key, owner)| (owner.time.clone(), key.clone()))
        .collect();
    let mut count = updaters.len();
    updaters.sort();
    let mut first_of: BTreeMap<String, ManagerKey> = BTreeMap::new();
    for (_, key) in updaters {
        if count <= MAX_UPDATERS {
            return;
        }
        let Some(first) = first_of.get(&key.api_version) else {
            first_of.insert(key.api_version.clone(), key);
            continue;
        };
        let bucket = ManagerKey::new(ANCIENT, Operation::Update, &key.api_version, "");
        if !managers.contains_key(&bucket)
            && let Some(owner) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owner);
        }
        if bucket == key {
            continue;
        }
        if let (Some(merged), Some(owner)) = (managers.remove(&key), managers.get_mut(&bucket)) {
            owner.gain(merged.set);
            owner.time = merged.time;
            count -= 1;
        }
    }
}
