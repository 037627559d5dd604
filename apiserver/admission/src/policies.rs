//! What policies that validate and policies that mutate have in common: which of them are about a request, with which parameters.
//!
//! Kubernetes documentation, "Validating Admission Policy", "Mutating Admission Policy"; KEP-3488, KEP-3962.

mod definition;
mod params;
mod registry;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use definition::{Binding, Body, Policy};
pub(crate) use registry::{Known, Policies};

use crate::conditions::{Evaluation, Inputs};
use crate::matching::{Request, is_exempt};
use crate::means::Means;
use crate::{Attributes, Form, Operation};
use params::Missing;

/// Requests about which no policy is asked: they only ask something themselves.
const QUESTIONS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// Whether any policy can be about the request.
pub(crate) fn concerns(a: &Attributes<'_>) -> bool {
    !is_exempt(a) && !QUESTIONS.iter().any(|(group, resource)| a.is_any(group, resource))
}

/// A policy that is to be asked, by its binding, with one of its objects of parameters.
pub(crate) struct Invocation<'k, B> {
    pub policy: &'k Policy<B>,
    pub binding: &'k Binding,
    /// What the policy is about, in which the request is shown.
    pub form: Form,
    pub params: Option<Arc<Value>>,
}

impl<B> Invocation<'_, B> {
    /// The evaluation of the policy's expressions; none where a condition says that the policy is not about the request.
    ///
    /// # Errors
    /// Why the conditions cannot tell.
    pub(crate) fn begin<'v>(
        &'v self,
        request: Request<'v>,
        review: &'v Value,
        means: &Means,
    ) -> Result<Option<Evaluation<'v>>, String> {
        let mut evaluation = self.evaluation(request, review, means);
        Ok(self.policy.conditions.hold(&mut evaluation)?.then_some(evaluation))
    }

    /// The evaluation of the policy's expressions, whatever the conditions say.
    pub(crate) fn evaluation<'v>(&'v self, request: Request<'v>, review: &'v Value, means: &Means) -> Evaluation<'v> {
        let inputs = Inputs { request, review, params: self.params.as_deref(), authorizer: means.authorizer.clone() };
        Evaluation::new(&inputs, &self.policy.variables)
    }
}

/// A policy that cannot be asked.
#[derive(Debug, PartialEq)]
pub(crate) struct Misconfigured<'k> {
    pub policy: &'k str,
    /// None where the policy itself is at fault.
    pub binding: Option<&'k str>,
    pub message: String,
}

/// The policies that are to be asked about a request, and those that should be and cannot.
pub(crate) struct Asked<'k, B> {
    pub invocations: Vec<Invocation<'k, B>>,
    pub misconfigured: Vec<Misconfigured<'k>>,
}

/// Finds the policies that are about a request, in the order of their names.
pub(crate) fn asked<'k, B>(known: &'k Known<B>, request: &Request<'_>, means: &Means) -> Asked<'k, B> {
    let mut asked = Asked { invocations: Vec::new(), misconfigured: Vec::new() };
    for policy in known.policies.values() {
        let mut bindings = known.bindings_of(&policy.name).peekable();
        if bindings.peek().is_none() {
            continue;
        }
        match policy.matches.as_ref().map(|resources| resources.form(request)) {
            Ok(Some(form)) => bindings.for_each(|binding| asked.bind(policy, binding, &form, request, means)),
            Ok(None) => {}
            Err(error) => {
                let message = format!("failed to configure policy: {error}");
                asked.misconfigured.push(Misconfigured { policy: &policy.name, binding: None, message });
            }
        }
    }
    asked.misconfigured.retain(|fault| known.policies.get(fault.policy).is_some_and(|policy| !policy.ignores_failure));
    asked
}

impl<'k, B> Asked<'k, B> {
    fn bind(&mut self, policy: &'k Policy<B>, binding: &'k Binding, form: &Form, request: &Request<'_>, means: &Means) {
        let found = match &binding.matches {
            Ok(resources) if resources.as_ref().is_none_or(|resources| resources.form(request).is_some()) => {
                params::of(policy.param_kind.as_ref(), binding, request.attributes.namespace, &*means.reader)
            }
            Ok(_) => return,
            Err(error) => Err(Missing::Broken(error.to_string())),
        };
        match found {
            Ok(all) => {
                let invocation = |params| Invocation { policy, binding, form: form.clone(), params };
                self.invocations.extend(all.into_iter().map(invocation));
            }
            Err(error) => self.misconfigured.push(Misconfigured {
                policy: &policy.name,
                binding: Some(&binding.name),
                message: format!("failed to configure binding: {error}"),
            }),
        }
    }
}

/// The object of a request as expressions see it: none where there is nothing.
pub(crate) fn object_of<'v>(a: &Attributes<'_>, object: Option<&'v Value>) -> Option<&'v Value> {
    object.filter(|object| a.operation != Operation::Delete && !object.is_null())
}
