//! PersistentVolumeClaimResize: a claim grows only where its class can make volumes grow.

use std::sync::Arc;

use apimachinery::ApiError;
use apimachinery::quantity::Quantity;
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Operation, Plugin};

const CLASSES: GroupResource<'static> = GroupResource::new("storage.k8s.io", "storageclasses");

pub struct PersistentVolumeClaimResize {
    reader: Arc<dyn Reader>,
}

impl PersistentVolumeClaimResize {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        PersistentVolumeClaimResize { reader }
    }

    fn can_grow(&self, claim: &Value) -> bool {
        let class = self.reader.get(CLASSES, "", text(claim, "/spec/storageClassName"));
        class.is_some_and(|class| class.get("allowVolumeExpansion").and_then(Value::as_bool) == Some(true))
    }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "persistentvolumeclaims") && a.operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let (Some(new), Some(old)) = (object, old) else { return Ok(()) };
        if size(new) <= size(old) {
            return Ok(());
        }
        if text(old, "/status/phase") != "Bound" {
            return Err(a.forbidden(object, "Only bound persistent volume claims can be expanded"));
        }
        if self.can_grow(old) {
            return Ok(());
        }
        let detail = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(a.forbidden(object, detail))
    }
}

/// What the claim asks for; none if it does not say so in a form that can be read.
fn size(claim: &Value) -> Option<Quantity> {
    text(claim, "/spec/resources/requests/storage").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{State, attributes};

    #[tokio::test]
    async fn a_claim_grows_where_its_class_lets_it() {
        let state = State::default();
        state.put(
            "storageclasses.storage.k8s.io",
            json!({"metadata": {"name": "elastic"}, "allowVolumeExpansion": true}),
        );
        state.put("storageclasses.storage.k8s.io", json!({"metadata": {"name": "stiff"}}));
        let plugin = PersistentVolumeClaimResize::new(Arc::new(state));
        let a = attributes(Operation::Update, "", "persistentvolumeclaims");
        let claim = |class: &str, size: &str, phase: &str| {
            let spec = json!({"storageClassName": class, "resources": {"requests": {"storage": size}}});
            json!({"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase}})
        };
        let cases = [
            ("elastic", "2Gi", "Bound", true),
            ("elastic", "2Gi", "Pending", false),
            ("stiff", "2Gi", "Bound", false),
            ("stiff", "1024Mi", "Bound", true),
            ("", "2Gi", "Bound", false),
        ];
        for (class, size, phase, wanted) in cases {
            let (new, old) = (claim(class, size, phase), claim(class, "1Gi", phase));
            assert_eq!(plugin.validate(&a, Some(&new), Some(&old)).await.is_ok(), wanted, "{class} {size} {phase}");
        }
    }
}
