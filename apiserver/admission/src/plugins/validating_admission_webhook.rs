//! ValidatingAdmissionWebhook: webhooks that may refuse what is written, all asked at once.
//!
//! Kubernetes documentation, "Dynamic Admission Control".

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::authorization::Authorizer;
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::Value;

use crate::matching::{GROUP, is_exempt};
use crate::means::Means;
use crate::webhook::{Hook, Hooks, Matching, Metrics, Services};
use crate::{Attributes, Form, Plugin};

const CONFIGURATIONS: GroupResource<'static> = GroupResource::new(GROUP, "validatingwebhookconfigurations");

pub struct ValidatingAdmissionWebhook {
    means: Means,
    hooks: Hooks,
    metrics: Metrics,
}

impl ValidatingAdmissionWebhook {
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<dyn Authorizer>, metrics: Metrics) -> Self {
        let hooks = Hooks::new(CONFIGURATIONS, Arc::new(Services(Arc::clone(&reader))));
        ValidatingAdmissionWebhook { means: Means { reader, authorizer }, hooks, metrics }
    }

    async fn call(
        &self,
        hook: &Hook,
        a: &Attributes<'_>,
        form: &Form,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let call = self.metrics.start("validating", hook, a);
        match hook.validate(a, form, object, old).await {
            Ok(()) => {
                call.passed();
                Ok(())
            }
            Err(failure) => {
                call.failed(&failure);
                hook.settle(failure)
            }
        }
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _: &Attributes<'_>) -> bool {
        !self.hooks.all().is_empty()
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        if is_exempt(a) {
            return Ok(());
        }
        let hooks = Arc::clone(&self.hooks.all());
        let matching = Matching { means: &self.means, a, old };
        let mut asked = Vec::new();
        for hook in hooks.iter() {
            if let Some(form) = matching.form(hook, object).await? {
                asked.push((hook, form));
            }
        }
        let calls = asked.iter().map(|(hook, form)| self.call(hook, a, form, object, old));
        // All are heard: what they warn of does not depend on who refuses first.
        join_all(calls).await.into_iter().collect()
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for ValidatingAdmissionWebhook {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[CONFIGURATIONS]
    }

    fn observe(&self, change: &Change<'_>) {
        self.hooks.observe(change);
    }
}
