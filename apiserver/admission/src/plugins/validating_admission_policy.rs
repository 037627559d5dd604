//! ValidatingAdmissionPolicy: requests are refused, or warned of, by expressions.
//!
//! Kubernetes documentation, "Validating Admission Policy"; KEP-3488.

mod validations;

use std::sync::Arc;

use apimachinery::{ApiError, Reason};
use apiserver_auth::authorization::Authorizer;
use apiserver_storage::reader::{GroupResource, Observer, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::matching::{GROUP, Request};
use crate::means::Means;
use crate::policies::{self, Invocation, Misconfigured, Policies, asked};
use crate::view::View;
use crate::{Attributes, Plugin};
use validations::{Failure, Validations};

const RESOURCES: [GroupResource<'static>; 2] = [
    GroupResource::new(GROUP, "validatingadmissionpolicies"),
    GroupResource::new(GROUP, "validatingadmissionpolicybindings"),
];

pub struct ValidatingAdmissionPolicy {
    policies: Arc<Policies<Validations>>,
    means: Means,
}

/// What a policy says against a request.
struct Refusal {
    policy: String,
    /// None where the policy itself is at fault.
    binding: Option<String>,
    failure: Failure,
}

impl Refusal {
    fn misconfigured(fault: &Misconfigured<'_>) -> Self {
        let failure = Failure { message: fault.message.clone(), reason: String::new() };
        Refusal { policy: fault.policy.to_owned(), binding: fault.binding.map(str::to_owned), failure }
    }

    fn of(invocation: &Invocation<'_, Validations>, failure: Failure) -> Self {
        Refusal { policy: invocation.policy.name.clone(), binding: Some(invocation.binding.name.clone()), failure }
    }

    fn who(&self) -> String {
        match &self.binding {
            Some(binding) => format!("ValidatingAdmissionPolicy '{}' with binding '{binding}'", self.policy),
            None => format!("ValidatingAdmissionPolicy '{}'", self.policy),
        }
    }

    fn error(&self, a: &Attributes<'_>, object: Option<&Value>) -> ApiError {
        let message = format!("{} denied request: {}", self.who(), self.failure.message);
        let mut error = a.forbidden(object, &message).with_cause("", "", message);
        let reason = match self.failure.reason.as_str() {
            "Forbidden" => Reason::Forbidden,
            "Unauthorized" => Reason::Unauthorized,
            "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
            _ => Reason::Invalid,
        };
        error.0.reason = reason.as_str().to_owned();
        error.0.code = reason.code();
        error
    }

    fn warning(&self) -> String {
        format!("Validation failed for {}: {}", self.who(), self.failure.message)
    }
}

impl ValidatingAdmissionPolicy {
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<dyn Authorizer>) -> Self {
        ValidatingAdmissionPolicy { policies: Arc::new(Policies::new(&RESOURCES)), means: Means { reader, authorizer } }
    }

    /// What the policies say whose bindings have the action. A policy that cannot be asked denies.
    fn refusals(&self, request: Request<'_>, action: &str) -> Vec<Refusal> {
        let known = self.policies.known();
        let asked = asked(&known, &request, &self.means);
        let mut refusals: Vec<Refusal> = Vec::new();
        if action == "Deny" {
            refusals.extend(asked.misconfigured.iter().map(Refusal::misconfigured));
        }
        let mut view: Option<View> = None;
        for invocation in &asked.invocations {
            view.take_if(|view| view.form != invocation.form);
            let view = view.get_or_insert_with(|| View::of(&request, &invocation.form));
            let found = validations::failures(invocation, view.request(request), &view.review, &self.means);
            let counted = if invocation.binding.has(action) { found.failures } else { Vec::new() };
            let broken = if action == "Deny" { found.annotations } else { Vec::new() };
            refusals.extend(counted.into_iter().chain(broken).map(|failure| Refusal::of(invocation, failure)));
        }
        refusals
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        !self.policies.is_empty() && policies::concerns(a)
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let namespace = self.means.fresh_namespace(a).await?;
        let object = policies::object_of(a, object);
        let request = Request { attributes: a, object, old, namespace: namespace.as_deref() };
        match self.refusals(request, "Deny").first() {
            Some(refusal) => Err(refusal.error(a, object.or(old))),
            None => Ok(()),
        }
    }

    fn warnings(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Vec<String> {
        if !self.policies.known().has_action("Warn") {
            return Vec::new();
        }
        let namespace = self.means.namespace(a);
        let object = policies::object_of(a, object);
        let request = Request { attributes: a, object, old, namespace: namespace.as_deref() };
        self.refusals(request, "Warn").iter().map(Refusal::warning).collect()
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self.policies.clone())
    }
}

#[cfg(test)]
mod tests;
