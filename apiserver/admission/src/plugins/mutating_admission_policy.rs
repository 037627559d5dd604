//! MutatingAdmissionPolicy: objects are changed by expressions, as an apply or JSON patches would.
//!
//! Kubernetes documentation, "Mutating Admission Policy"; KEP-3962.

mod mutations;

use std::sync::Arc;

use apimachinery::{ApiError, Reason};
use apiserver_auth::authorization::Authorizer;
use apiserver_storage::reader::{GroupResource, Observer, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::matching::{GROUP, Request};
use crate::means::Means;
use crate::passes::Passes;
use crate::policies::{self, Invocation, Policies, asked};
use crate::{Attributes, Operation, Plugin};
use mutations::Mutations;

const NAME: &str = "MutatingAdmissionPolicy";
const RESOURCES: [GroupResource<'static>; 2] = [
    GroupResource::new(GROUP, "mutatingadmissionpolicies"),
    GroupResource::new(GROUP, "mutatingadmissionpolicybindings"),
];

pub struct MutatingAdmissionPolicy {
    policies: Arc<Policies<Mutations>>,
    means: Means,
}

/// A policy that failed, and why.
type Failure = (String, String);

fn failure(invocation: &Invocation<'_, Mutations>, error: &str) -> Failure {
    (described(&invocation.policy.name, Some(&invocation.binding.name)), error.to_owned())
}

fn described(policy: &str, binding: Option<&str>) -> String {
    match binding {
        Some(binding) => format!("policy '{policy}' with binding '{binding}'"),
        None => format!("policy '{policy}'"),
    }
}

/// A binding of a policy with an object of parameters: what is invoked again is told apart by it.
fn id(invocation: &Invocation<'_, Mutations>) -> String {
    let params = invocation.params.as_deref().map(apimachinery::meta::name).unwrap_or_default();
    format!("{}/{}/{params}", invocation.policy.name, invocation.binding.name)
}

impl MutatingAdmissionPolicy {
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<dyn Authorizer>) -> Self {
        MutatingAdmissionPolicy { policies: Arc::new(Policies::new(&RESOURCES)), means: Means { reader, authorizer } }
    }

    /// Lets the policies change the object, one after the other; in the second pass those that want it, where another one has changed
    /// something after them.
    fn pass(&self, request: Request<'_>, object: &mut Value, passes: &mut Passes) -> Result<(), Vec<Failure>> {
        let known = self.policies.known();
        let before = object.clone();
        let asked = asked(&known, &Request { object: Some(&before), ..request }, &self.means);
        let mut failures: Vec<Failure> = Vec::new();
        if passes.is_second() {
            passes.calls(NAME).start_again(object);
        } else {
            let fault =
                |fault: &policies::Misconfigured<'_>| (described(fault.policy, fault.binding), fault.message.clone());
            failures.extend(asked.misconfigured.iter().map(fault));
        }
        for invocation in &asked.invocations {
            let id = id(invocation);
            if passes.is_second() && !passes.calls(NAME).is_wanted_again(&id) {
                continue;
            }
            match mutations::apply(invocation, request, object, &self.means) {
                Ok(true) => {
                    passes.calls(NAME).changed();
                    passes.want_another();
                }
                Ok(false) => {}
                Err(error) if !invocation.policy.ignores_failure => failures.push(failure(invocation, &error)),
                Err(_) => {}
            }
            if invocation.policy.body.reinvoked {
                passes.calls(NAME).made(&id);
            }
        }
        passes.calls(NAME).ended(object);
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}

/// What the client is told: the first failure, with all of them as causes.
fn refusal(a: &Attributes<'_>, object: &Value, failures: &[Failure]) -> ApiError {
    let message = |(who, why): &Failure| format!("{who} denied request: {why}");
    let first = failures.first().map(message).unwrap_or_default();
    let error = a.forbidden(Some(object), "admission request denied by policy");
    let mut error = failures.iter().fold(error, |error, failure| error.with_cause("", "", message(failure)));
    error.0.message = first;
    error.0.reason = Reason::Invalid.as_str().to_owned();
    error
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.operation != Operation::Delete && !self.policies.is_empty() && policies::concerns(a)
    }

    async fn admit_in(
        &self,
        a: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
        passes: &mut Passes,
    ) -> Result<(), ApiError> {
        if object.is_null() {
            return Ok(());
        }
        let namespace = self.means.fresh_namespace(a).await?;
        let request = Request { attributes: a, object: None, old, namespace: namespace.as_deref() };
        self.pass(request, object, passes).map_err(|failures| refusal(a, object, &failures))
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self.policies.clone())
    }
}

#[cfg(test)]
mod tests;
