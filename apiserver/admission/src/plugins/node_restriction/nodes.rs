//! A kubelet's own Node object.

use apimachinery::ApiError;
use serde_json::Value;

use super::{Request, labels::forbidden_changes};
use crate::Operation;

pub(super) fn check(request: &Request<'_>) -> Result<(), ApiError> {
    let node = request.node;
    if let (Operation::Create, Some(object)) = (request.a.operation, request.object) {
        let source = blank(object.pointer("/spec/configSource"));
        request.require(source.is_none(), || {
            format!("node {node:?} is not allowed to create pods with a non-nil configSource")
        })?;
        let forbidden = forbidden_changes(object, None);
        request.require(forbidden.is_empty(), || {
            format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", "))
        })?;
    }
    let name = request.name();
    request.require(name == node, || format!("node {node:?} is not allowed to modify node {name:?}"))?;
    let (Operation::Update, Some(object), Some(old)) = (request.a.operation, request.object, request.old) else {
        return Ok(());
    };
    let same = |pointer: &str| blank(object.pointer(pointer)) == blank(old.pointer(pointer));
    // Kubelets that do not know the field leave it out.
    let keeps = blank(object.pointer("/spec/configSource")).is_none() || same("/spec/configSource");
    request.require(keeps, || {
        format!("node {node:?} is not allowed to update configSource to a new non-nil configSource")
    })?;
    request.require(same("/spec/taints"), || format!("node {node:?} is not allowed to modify taints"))?;
    request.require(same("/metadata/ownerReferences"), || {
        format!("node {node:?} is not allowed to modify ownerReferences")
    })?;
    let forbidden = forbidden_changes(object, Some(old));
    request.require(forbidden.is_empty(), || format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

/// Absent, null and empty are the same.
fn blank(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
}
