//! LimitRanger: a namespace's LimitRanges give containers default requests and limits, and bound what may be asked for.
//!
//! Kubernetes documentation, "Limit Ranges".

mod bounds;
mod defaults;

use std::collections::HashSet;
use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{Change, GroupResource, Observer};
use async_trait::async_trait;
use serde_json::Value;

use crate::namespaced::Namespaced;
use crate::object::items;
use crate::{Attributes, Operation, Plugin};

#[derive(Default)]
pub struct LimitRanger {
    ranges: Namespaced,
}

/// What is wrong, said once.
fn summary(mut faults: Vec<String>) -> Option<String> {
    let mut seen = HashSet::new();
    faults.retain(|fault| seen.insert(fault.clone()));
    match faults.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
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
            for range in self.ranges.of(a.namespace) {
                defaults::apply(&range, object);
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        if old.is_some_and(|old| meta::deletion_timestamp(old).is_some()) {
            return Ok(());
        }
        let check: fn(&Value, &Value) -> Vec<String> =
            if a.is_any("", "pods") { bounds::of_pod } else { bounds::of_claim };
        for range in self.ranges.of(a.namespace) {
            let faults = items(&range, "/spec/limits").iter().flat_map(|limit| check(limit, object)).collect();
            if let Some(detail) = summary(faults) {
                return Err(a.forbidden(Some(object), &detail));
            }
        }
        Ok(())
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
        self.ranges.observe(change);
    }
}

#[cfg(test)]
mod tests;
