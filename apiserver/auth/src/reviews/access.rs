//! SubjectAccessReview, SelfSubjectAccessReview and LocalSubjectAccessReview: may this user do that?

use std::collections::BTreeMap;

use apimachinery::ApiError;
use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::{answered, selectors};
use crate::authorization::Authorizer;
use crate::object::{strings, text};
use crate::user::{Attributes, Decision, UserInfo};

const GROUP: &str = "authorization.k8s.io";

/// Answers a SubjectAccessReview.
pub fn subject(authorizer: &dyn Authorizer, object: &Value) -> Result<Value, ApiError> {
    let mut errors = validate_spec(object);
    errors.extend(validate_user(object));
    errors.extend(validate_metadata(object, &[]));
    check("SubjectAccessReview", errors)?;
    Ok(answer(authorizer, &user_of(object), object))
}

/// Answers a SelfSubjectAccessReview for who asks.
pub fn self_subject(authorizer: &dyn Authorizer, user: &UserInfo, object: &Value) -> Result<Value, ApiError> {
    let mut errors = validate_spec(object);
    errors.extend(validate_metadata(object, &[]));
    check("SelfSubjectAccessReview", errors)?;
    Ok(answer(authorizer, user, object))
}

/// Answers a LocalSubjectAccessReview posted to a namespace.
pub fn local_subject(authorizer: &dyn Authorizer, namespace: &str, object: &Value) -> Result<Value, ApiError> {
    let mut errors = validate_spec(object);
    errors.extend(validate_user(object));
    errors.extend(validate_metadata(object, &["namespace"]));
    let spec = Path::new("spec");
    if let Some(attributes) = part(object, "resourceAttributes") {
        let given = text(attributes, "/namespace");
        if given != namespace {
            let path = spec.child("resourceAttributes").child("namespace");
            errors.push(Error::invalid(&path, given, "must match metadata.namespace"));
        }
    }
    if part(object, "nonResourceAttributes").is_some() {
        let detail = "disallowed on this kind of request";
        errors.push(Error::invalid(&spec.child("nonResourceAttributes"), Value::Null, detail));
    }
    check("LocalSubjectAccessReview", errors)?;
    Ok(answer(authorizer, &user_of(object), object))
}

fn check(kind: &str, errors: ErrorList) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(GROUP, kind, "", &errors)) }
}

/// A part of the spec that is there.
fn part<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("spec")?.get(field).filter(|value| value.is_object())
}

fn validate_spec(object: &Value) -> ErrorList {
    let spec = Path::new("spec");
    let (resource, path) = (part(object, "resourceAttributes"), part(object, "nonResourceAttributes"));
    match (resource, path) {
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![Error::invalid(&spec.child("resourceAttributes"), Value::Null, detail)]
        }
        (Some(_), Some(_)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            vec![Error::invalid(&spec.child("nonResourceAttributes"), Value::Null, detail)]
        }
        (Some(attributes), None) => selectors::validate(attributes, &spec.child("resourceAttributes")),
        (None, Some(_)) => Vec::new(),
    }
}

fn validate_user(object: &Value) -> ErrorList {
    let groups = object.get("spec").map(|spec| strings(spec, "groups")).unwrap_or_default();
    if !text(object, "/spec/user").is_empty() || !groups.is_empty() {
        return Vec::new();
    }
    vec![Error::invalid(&Path::new("spec").child("user"), "", "at least one of user or group must be specified")]
}

/// Reviews have no identity, so metadata says nothing but, for local ones, the namespace.
fn validate_metadata(object: &Value, allowed: &[&str]) -> ErrorList {
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let says = |(key, value): (&String, &Value)| {
        let blank = value.is_null() || value.as_str() == Some("") || value.as_object().is_some_and(Map::is_empty);
        !blank && key != "managedFields" && !allowed.contains(&key.as_str())
    };
    if metadata.iter().any(says) {
        let detail = if allowed.is_empty() { "must be empty" } else { "must be empty except for namespace" };
        return vec![Error::invalid(&Path::new("metadata"), Value::Object(metadata.clone()), detail)];
    }
    Vec::new()
}

fn user_of(object: &Value) -> UserInfo {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut extra = BTreeMap::new();
    if let Some(given) = spec.get("extra").and_then(Value::as_object) {
        extra.extend(given.keys().map(|key| (key.to_lowercase(), strings(&spec["extra"], key))));
    }
    UserInfo {
        name: text(spec, "/user").to_owned(),
        uid: text(spec, "/uid").to_owned(),
        groups: strings(spec, "groups"),
        extra,
    }
}

fn answer(authorizer: &dyn Authorizer, user: &UserInfo, object: &Value) -> Value {
    let decision = match (part(object, "resourceAttributes"), part(object, "nonResourceAttributes")) {
        (Some(attributes), _) => {
            let (fields, labels) = (selectors::fields(attributes), selectors::labels(attributes));
            authorizer.authorize(user, &resource_request(attributes, &fields, &labels))
        }
        (None, Some(attributes)) => {
            let (verb, path) = (text(attributes, "/verb"), text(attributes, "/path"));
            authorizer.authorize(user, &Attributes { verb, path, ..Attributes::default() })
        }
        (None, None) => Decision::NoOpinion { reason: String::new() },
    };
    answered(object, status(&decision))
}

fn resource_request<'a>(attributes: &'a Value, fields: &'a str, labels: &'a str) -> Attributes<'a> {
    Attributes {
        verb: text(attributes, "/verb"),
        is_resource_request: true,
        group: text(attributes, "/group"),
        version: text(attributes, "/version"),
        resource: text(attributes, "/resource"),
        subresource: text(attributes, "/subresource"),
        namespace: text(attributes, "/namespace"),
        name: text(attributes, "/name"),
        path: "",
        field_selector: fields,
        label_selector: labels,
    }
}

fn status(decision: &Decision) -> Value {
    let mut status = Map::new();
    status.insert("allowed".into(), decision.allowed().into());
    if matches!(decision, Decision::Deny { .. }) {
        status.insert("denied".into(), true.into());
    }
    if !decision.reason().is_empty() {
        status.insert("reason".into(), decision.reason().into());
    }
    Value::Object(status)
}
