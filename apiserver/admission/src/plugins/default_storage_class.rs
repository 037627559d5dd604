//! DefaultStorageClass: claims that name no storage class get the default one.

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{Change, GroupResource, Observer};
use async_trait::async_trait;
use serde_json::Value;

use super::default_class::DefaultClass;
use crate::object::object_mut;
use crate::{Attributes, Operation, Plugin};

const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const OLD_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

#[derive(Default)]
pub struct DefaultStorageClass {
    classes: DefaultClass,
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "persistentvolumeclaims") && a.operation == Operation::Create
    }

    async fn admit(&self, _: &Attributes<'_>, claim: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        // An empty name is a name: it asks for a volume without a class.
        let named = claim.pointer("/spec/storageClassName").is_some_and(Value::is_string)
            || meta::annotation(claim, OLD_ANNOTATION).is_some();
        if let Some(class) = self.classes.name().filter(|_| !named) {
            object_mut(claim, "spec")["storageClassName"] = class.into();
        }
        Ok(())
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for DefaultStorageClass {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        const CLASSES: [GroupResource<'static>; 1] = [GroupResource::new("storage.k8s.io", "storageclasses")];
        &CLASSES
    }

    fn observe(&self, change: &Change<'_>) {
        self.classes.observe(change, &MARKS);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{admit, attributes, observe};

    #[tokio::test]
    async fn the_newest_default_is_given_to_claims_that_name_none() {
        let plugin = DefaultStorageClass::default();
        let a = attributes(Operation::Create, "", "persistentvolumeclaims");
        let claim = |spec: Value| json!({"metadata": {"name": "c"}, "spec": spec});
        let got = admit(&plugin, &a, claim(json!({}))).await.expect("admitted");
        assert_eq!(got["spec"], json!({}), "there is none");
        for (name, mark, created) in [
            ("old", "true", "2026-01-01T00:00:00Z"),
            ("new", "true", "2026-02-01T00:00:00Z"),
            ("no", "false", "2026-03-01T00:00:00Z"),
        ] {
            let metadata = json!({"name": name, "creationTimestamp": created, "annotations": {MARKS[0]: mark}});
            observe(&plugin, plugin.resources()[0], &json!({"metadata": metadata}));
        }
        for (spec, wanted) in
            [(json!({}), "new"), (json!({"storageClassName": ""}), ""), (json!({"storageClassName": "x"}), "x")]
        {
            let got = admit(&plugin, &a, claim(spec)).await.expect("admitted");
            assert_eq!(got["spec"]["storageClassName"], wanted);
        }
    }
}
