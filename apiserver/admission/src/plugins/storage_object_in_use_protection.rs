//! StorageObjectInUseProtection: volumes, claims and attribute classes stay while something uses them.

use apimachinery::{ApiError, meta};
use async_trait::async_trait;
use serde_json::Value;

use crate::{Attributes, Operation, Plugin};

/// Adds the finalizers that the protection controllers remove.
pub struct StorageObjectInUseProtection;

fn finalizer(a: &Attributes<'_>) -> Option<&'static str> {
    let protected = [
        ("", "persistentvolumes", "kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
        ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
    ];
    protected.into_iter().find(|(group, resource, _)| a.is(group, resource)).map(|(_, _, finalizer)| finalizer)
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.operation == Operation::Create && finalizer(a).is_some()
    }

    async fn admit(&self, a: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        if let Some(finalizer) = finalizer(a).filter(|finalizer| !meta::has_finalizer(object, finalizer)) {
            let mut all: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
            all.push(finalizer.to_owned());
            meta::set_finalizers(object, all);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn claims_and_volumes_get_their_finalizer_once() {
        for (resource, finalizer) in [
            ("persistentvolumes", "kubernetes.io/pv-protection"),
            ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
        ] {
            let a = attributes(Operation::Create, "", resource);
            let mut object = json!({"metadata": {"name": "x", "finalizers": ["own"]}});
            for _ in 0..2 {
                object = admit(&StorageObjectInUseProtection, &a, object).await.expect("admitted");
                assert_eq!(object["metadata"]["finalizers"], json!(["own", finalizer]));
            }
        }
        assert!(!StorageObjectInUseProtection.handles(&attributes(Operation::Create, "", "pods")));
    }
}
