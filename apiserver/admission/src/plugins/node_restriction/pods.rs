//! Pods: a kubelet makes mirror pods of its own, reports on those that run on it, and ends them.

use apimachinery::{ApiError, meta};
use apiserver_auth::authorization::node::references::{self, Kind};
use serde_json::Value;

use super::{NodeRestriction, Request};
use crate::Operation;
use crate::object::{items, text};

pub(super) fn status(request: &Request<'_>) -> Result<(), ApiError> {
    let node = request.node;
    let (Operation::Update, Some(pod), Some(old)) = (request.a.operation, request.object, request.old) else {
        return request.refuse(&format!("unexpected operation {:?}", request.a.operation));
    };
    request.require(text(old, "/spec/nodeName") == node, || {
        format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
    })?;
    request.require(meta::labels(pod) == meta::labels(old), || {
        format!("node {node:?} cannot update labels through pod status")
    })?;
    let claims = "/status/resourceClaimStatuses";
    request.require(items(pod, claims) == items(old, claims), || {
        format!("node {node:?} cannot update resource claim statuses")
    })?;
    let extended = "/status/extendedResourceClaimStatus";
    request.require(pod.pointer(extended) == old.pointer(extended), || {
        format!("node {node:?} cannot update extended resource claim status")
    })
}

impl NodeRestriction {
    pub(super) async fn pod(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let node = request.node;
        match (request.a.operation, request.object) {
            (Operation::Create, Some(pod)) => self.mirror(request, pod).await,
            (Operation::Delete, _) => {
                let existing = match request.old {
                    Some(old) => Some(std::sync::Arc::new(old.clone())),
                    None => self.find("pods", request.a.namespace, request.a.name).await?,
                };
                let existing = existing.ok_or_else(|| ApiError::not_found("", "pods", request.a.name))?;
                request.require(text(&existing, "/spec/nodeName") == node, || {
                    format!("node {node:?} can only delete pods with spec.nodeName set to itself")
                })
            }
            (operation, _) => {
                let detail =
                    format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods");
                request.refuse(&detail)
            }
        }
    }

    pub(super) async fn eviction(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let node = request.node;
        if request.a.operation != Operation::Create {
            return request.refuse(&format!("unexpected operation {:?}", request.a.operation));
        }
        let name = request.name();
        let pod = self.find("pods", request.a.namespace, name).await?;
        let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", name))?;
        request.require(text(&pod, "/spec/nodeName") == node, || {
            format!("node {node} can only evict pods with spec.nodeName set to itself")
        })
    }

    async fn mirror(&self, request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
        let node = request.node;
        request.require(references::is_mirror(pod), || {
            format!("pod does not have {:?} annotation, node {node:?} can only create mirror pods", references::MIRROR)
        })?;
        request.require(text(pod, "/spec/nodeName") == node, || {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        })?;
        self.owner(request, pod).await?;
        without_references(request, pod)
    }

    /// The one owner of a mirror pod is its node.
    async fn owner(&self, request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
        let node = request.node;
        let owners = meta::owner_references(pod);
        request.require(owners.len() <= 1, || {
            format!("node {node:?} can only create pods with a single owner reference set to itself")
        })?;
        let is_self = |owner: &Value| {
            text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Node" && text(owner, "/name") == node
        };
        let Some(owner) = owners.first().filter(|owner| is_self(owner)) else {
            return request
                .refuse(&format!("node {node:?} can only create pods with an owner reference set to itself"));
        };
        let flag = |field: &str| owner.get(field).and_then(Value::as_bool).unwrap_or(false);
        request.require(flag("controller"), || {
            format!("node {node:?} can only create pods with a controller owner reference set to itself")
        })?;
        request.require(!flag("blockOwnerDeletion"), || {
            format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
        })?;
        let object = self.find("nodes", "", node).await?.ok_or_else(|| ApiError::not_found("", "nodes", node))?;
        let (expected, got) = (meta::uid(&object), text(owner, "/uid"));
        request.require(expected == got, || format!("node {node} UID mismatch: expected {expected} got {got}"))
    }
}

/// A mirror pod names nothing that the Node authorizer would open to its node.
fn without_references(request: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
    let mut found = None;
    references::of_pod(pod, &mut |kind, _| {
        let what = match kind {
            Kind::ServiceAccount => "a service account",
            Kind::Secret => "secrets",
            Kind::ConfigMap => "configmaps",
            Kind::ResourceClaim => "resourceclaims",
            _ => "persistentvolumeclaims",
        };
        found = found.or(Some(what));
    });
    if !items(pod, "/spec/resourceClaims").is_empty() {
        found = found.or(Some("resourceclaims"));
    }
    let mut projections = items(pod, "/spec/volumes").iter().flat_map(|volume| items(volume, "/projected/sources"));
    if projections.any(|source| source.get("clusterTrustBundle").is_some_and(Value::is_object)) {
        found = found.or(Some("clustertrustbundles"));
    }
    match found {
        Some(what) => request.refuse(&format!("node {:?} can not create pods that reference {what}", request.node)),
        None => Ok(()),
    }
}
