//! SelfSubjectRulesReview: what may I do in this namespace?

use std::sync::Arc;

use apimachinery::ApiError;
use serde_json::{Value, json};

use super::answered;
use crate::authorization::{Authorizer, Rule};
use crate::object::text;
use crate::user::UserInfo;

/// Answers a SelfSubjectRulesReview for who asks.
pub fn self_subject(authorizer: &dyn Authorizer, user: &UserInfo, object: &Value) -> Result<Value, ApiError> {
    let namespace = text(object, "/spec/namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let found = authorizer.rules(user, namespace);
    let (on_paths, on_resources): (Vec<_>, Vec<_>) =
        found.rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let list = |rules: Vec<&Arc<Rule>>| -> Value { rules.into_iter().map(|rule| rule.to_value()).collect() };
    let mut status = json!({
        "resourceRules": list(on_resources),
        "nonResourceRules": list(on_paths),
        "incomplete": found.incomplete || !found.errors.is_empty(),
    });
    if !found.errors.is_empty() {
        status["evaluationError"] = found.errors.join(", ").into();
    }
    Ok(answered(object, status))
}
