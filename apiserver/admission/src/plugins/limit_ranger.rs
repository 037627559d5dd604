//! LimitRanger: a namespace's LimitRanges give containers default requests and limits, and bound what may be asked for.
//!
//! Kubernetes documentation, "Limit Ranges".

mod bounds;
mod defaults;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::{Change, GroupResource, Observer};
use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;

use crate::object::items;
use crate::{Attributes, Operation, Plugin};

/// The LimitRanges of each namespace, by name.
#[derive(Default)]
pub struct LimitRanger {
    ranges: RwLock<HashMap<String, BTreeMap<String, Arc<Value>>>>,
}

impl LimitRanger {
    /// The items of all LimitRanges of the namespace.
    fn with_limits<T>(&self, namespace: &str, then: impl Fn(&Value) -> T) -> Vec<T> {
        let ranges = self.ranges.read();
        let of_namespace = ranges.get(namespace).into_iter().flat_map(BTreeMap::values);
        of_namespace.flat_map(|range| items(range, "/spec/limits")).map(then).collect()
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    /// A pod's containers cannot change what they ask for but by `resize`; a claim can grow.
    fn handles(&self, a: &Attributes<'_>) -> bool {
        let creates = a.operation == Operation::Create && a.is("", "pods");
        let resizes = a.operation == Operation::Update && a.is_any("", "pods") && a.subresource == "resize";
        creates || resizes || (a.writes() && a.is("", "persistentvolumeclaims"))
    }

    async fn admit(&self, a: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        if a.is("", "pods") {
            for limit in self.with_limits(a.namespace, Value::clone) {
                defaults::apply(&limit, object);
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let check: fn(&Value, &Value) -> Vec<String> =
            if a.is_any("", "pods") { bounds::of_pod } else { bounds::of_claim };
        let faults: Vec<String> = self.with_limits(a.namespace, |limit| check(limit, object)).concat();
        match faults.as_slice() {
            [] => Ok(()),
            [one] => Err(a.forbidden(Some(object), one)),
            many => Err(a.forbidden(Some(object), &format!("[{}]", many.join(", ")))),
        }
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for LimitRanger {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        const RANGES: [GroupResource<'static>; 1] = [GroupResource::new("", "limitranges")];
        &RANGES
    }

    fn observe(&self, change: &Change<'_>) {
        let mut ranges = self.ranges.write();
        let namespace = ranges.entry(change.namespace.to_owned()).or_default();
        match &change.new {
            Some(range) => namespace.insert(change.name.to_owned(), Arc::clone(range)),
            None => namespace.remove(change.name),
        };
        if namespace.is_empty() {
            ranges.remove(change.namespace);
        }
    }
}

#[cfg(test)]
mod tests;
