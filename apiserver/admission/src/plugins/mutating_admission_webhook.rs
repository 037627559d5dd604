//! MutatingAdmissionWebhook: webhooks that change what is written, one after the other.
//!
//! Kubernetes documentation, "Dynamic Admission Control".

use std::sync::Arc;

use apimachinery::managed_fields::Set;
use apimachinery::{ApiError, meta};
use apiserver_auth::authorization::Authorizer;
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::matching::{GROUP, is_exempt};
use crate::means::Means;
use crate::passes::Passes;
use crate::webhook::{Hook, Hooks, Matching, Metrics, Services};
use crate::{Attributes, Form, Plugin};

const NAME: &str = "MutatingAdmissionWebhook";
const CONFIGURATIONS: GroupResource<'static> = GroupResource::new(GROUP, "mutatingwebhookconfigurations");

pub struct MutatingAdmissionWebhook {
    means: Means,
    hooks: Hooks,
    metrics: Metrics,
}

impl MutatingAdmissionWebhook {
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<dyn Authorizer>, metrics: Metrics) -> Self {
        let hooks = Hooks::new(CONFIGURATIONS, Arc::new(Services(Arc::clone(&reader))));
        MutatingAdmissionWebhook { means: Means { reader, authorizer }, hooks, metrics }
    }

    /// Lets one webhook change the object; tells whether it did.
    async fn call(
        &self,
        hook: &Hook,
        a: &Attributes<'_>,
        form: &Form,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, ApiError> {
        let managed = meta::managed_fields(object).to_vec();
        let call = self.metrics.start("admit", hook, a);
        match hook.mutate(a, form, object, old).await {
            Ok(changed) => {
                call.passed();
                keep_managed_fields(a, object, managed);
                Ok(changed)
            }
            Err(failure) => {
                call.failed(&failure);
                hook.settle(failure).map(|()| false)
            }
        }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, _: &Attributes<'_>) -> bool {
        !self.hooks.all().is_empty()
    }

    async fn admit_in(
        &self,
        a: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
        passes: &mut Passes,
    ) -> Result<(), ApiError> {
        if is_exempt(a) {
            return Ok(());
        }
        let hooks = Arc::clone(&self.hooks.all());
        if passes.is_second() {
            passes.calls(NAME).start_again(object);
        }
        let matching = Matching { means: &self.means, a, old };
        for hook in hooks.iter() {
            let shown = (!object.is_null()).then_some(&*object);
            let Some(form) = matching.form(hook, shown).await? else { continue };
            // One that was not asked in the first pass is not asked now.
            if passes.is_second() && !passes.calls(NAME).is_wanted_again(&hook.id) {
                continue;
            }
            if self.call(hook, a, &form, object, old).await? {
                passes.calls(NAME).changed();
                passes.want_another();
            }
            if hook.reinvoked {
                passes.calls(NAME).made(&hook.id);
            }
        }
        passes.calls(NAME).ended(object);
        Ok(())
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for MutatingAdmissionWebhook {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[CONFIGURATIONS]
    }

    fn observe(&self, change: &Change<'_>) {
        self.hooks.observe(change);
    }
}

/// What webhooks make of the managed fields counts only where it can be read; else they stay as they were.
fn keep_managed_fields(a: &Attributes<'_>, object: &mut Value, before: Vec<Value>) {
    if meta::managed_fields(object) == before {
        return;
    }
    let Some(reason) = meta::managed_fields(object).iter().find_map(unreadable) else { return };
    a.request.warn(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
         admission controller; please fix your requests: {reason}"
    ));
    meta::set_managed_fields(object, before);
}

fn unreadable(entry: &Value) -> Option<String> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default();
    if !matches!(text("operation"), "Apply" | "Update") {
        return Some(format!("invalid operation: {:?}", text("operation")));
    }
    if text("fieldsType") != "FieldsV1" {
        return Some(format!("unsupported fieldsType: {:?}", text("fieldsType")));
    }
    Set::decode(&entry["fieldsV1"]).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::attributes;

    #[test]
    fn managed_fields_that_cannot_be_read_stay_as_they_were() {
        let entry =
            |operation: &str| json!({"operation": operation, "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
        let a = attributes(Operation::Create, "", "pods");
        for (after, kept) in [(entry("Update"), true), (entry("Other"), false), (json!({"operation": "Apply"}), false)]
        {
            let mut object = json!({"metadata": {"managedFields": [after]}});
            keep_managed_fields(&a, &mut object, vec![entry("Apply")]);
            let expected = if kept { after } else { entry("Apply") };
            assert_eq!(object["metadata"]["managedFields"], json!([expected]));
        }
    }
}
