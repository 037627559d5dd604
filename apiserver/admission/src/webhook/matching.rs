//! Which requests a webhook is asked about: its rules, its selectors and its conditions.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Matching requests").

use std::sync::Arc;

use apimachinery::ApiError;
use serde_json::Value;

use super::hook::Hook;
use crate::conditions::{Evaluation, Inputs};
use crate::matching::{self, Request};
use crate::means::Means;
use crate::view::View;
use crate::{Attributes, Form};

/// A request as the webhooks of a plugin see it.
pub(crate) struct Matching<'a> {
    pub(crate) means: &'a Means,
    pub(crate) a: &'a Attributes<'a>,
    pub(crate) old: Option<&'a Value>,
}

impl Matching<'_> {
    /// The form in which the webhook is to be asked about the object; none if it is not to be asked.
    ///
    /// # Errors
    /// Selectors that cannot be used, a namespace that is not there, conditions that fail.
    pub(crate) async fn form(&self, hook: &Hook, object: Option<&Value>) -> Result<Option<Form>, ApiError> {
        // A failure counts only where the rules say that the request is the webhook's affair.
        let Some(form) = matching::form(&hook.rules, self.a, hook.equivalent) else { return Ok(None) };
        let selectors = hook.selectors.as_ref().map_err(ApiError::internal)?;
        let request = Request { attributes: self.a, object, old: self.old, namespace: None };
        if !selectors.match_object(&request) {
            return Ok(None);
        }
        let namespace = if selectors.need_namespace(self.a) { Some(self.namespace().await?) } else { None };
        let within = Request { namespace: namespace.as_deref(), ..request };
        let asked = selectors.match_namespace(&within) && self.conditions_hold(hook, request, &form)?;
        Ok(asked.then_some(form))
    }

    async fn namespace(&self) -> Result<Arc<Value>, ApiError> {
        let found = self.means.fresh_namespace(self.a).await?;
        found.ok_or_else(|| ApiError::not_found("", "namespaces", self.a.namespace))
    }

    /// Conditions of webhooks do not see the namespace.
    fn conditions_hold(&self, hook: &Hook, request: Request<'_>, form: &Form) -> Result<bool, ApiError> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let view = View::of(&request, form);
        let inputs = Inputs {
            request: view.request(request),
            review: &view.review,
            params: None,
            authorizer: self.means.authorizer.clone(),
        };
        let mut evaluation = Evaluation::new(&inputs, &[]);
        match hook.conditions.hold(&mut evaluation) {
            Err(_) if hook.ignores_failures => Ok(false),
            held => held.map_err(|errors| self.a.forbidden(request.object, &errors)),
        }
    }
}
