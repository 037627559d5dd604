//! DefaultIngressClass: ingresses that name no class get the default one.

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{Change, GroupResource, Observer};
use async_trait::async_trait;
use serde_json::Value;

use super::default_class::DefaultClass;
use crate::object::object_mut;
use crate::{Attributes, Operation, Plugin};

const GROUP: &str = "networking.k8s.io";
const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
const OLD_ANNOTATION: &str = "kubernetes.io/ingress.class";

#[derive(Default)]
pub struct DefaultIngressClass {
    classes: DefaultClass,
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is(GROUP, "ingresses") && a.operation == Operation::Create
    }

    async fn admit(&self, _: &Attributes<'_>, ingress: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        let named = ingress.pointer("/spec/ingressClassName").is_some_and(Value::is_string)
            || meta::annotation(ingress, OLD_ANNOTATION).is_some();
        if let Some(class) = self.classes.name().filter(|_| !named) {
            object_mut(ingress, "spec")["ingressClassName"] = class.into();
        }
        Ok(())
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for DefaultIngressClass {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        const CLASSES: [GroupResource<'static>; 1] = [GroupResource::new(GROUP, "ingressclasses")];
        &CLASSES
    }

    fn observe(&self, change: &Change<'_>) {
        self.classes.observe(change, &[MARK]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{admit, attributes, observe};

    #[tokio::test]
    async fn the_default_is_given_to_ingresses_that_name_none() {
        let plugin = DefaultIngressClass::default();
        let class = json!({"metadata": {"name": "usual", "annotations": {MARK: "true"}}});
        observe(&plugin, plugin.resources()[0], &class);
        let a = attributes(Operation::Create, GROUP, "ingresses");
        let got = admit(&plugin, &a, json!({"metadata": {"name": "i"}})).await.expect("admitted");
        assert_eq!(got["spec"]["ingressClassName"], "usual");
        let own = json!({"metadata": {"name": "i", "annotations": {OLD_ANNOTATION: "own"}}});
        assert_eq!(admit(&plugin, &a, own.clone()).await, Ok(own));
    }
}
