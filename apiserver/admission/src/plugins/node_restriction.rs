//! NodeRestriction: a kubelet writes its own node, the status of its own pods, and little else.
//!
//! Kubernetes documentation, "Using Node Authorization" and "Admission Control in Kubernetes". The Node authorizer says which
//! objects a kubelet may touch; this says what it may write into them.

mod labels;
mod nodes;
mod pods;
mod tokens;

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_auth::Authorizer;
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Operation, Plugin};

const LEASE_NAMESPACE: &str = "kube-node-lease";

pub struct NodeRestriction {
    reader: Arc<dyn Reader>,
    authorizer: Arc<dyn Authorizer>,
}

/// A request of a kubelet.
struct Request<'a> {
    a: &'a Attributes<'a>,
    node: &'a str,
    object: Option<&'a Value>,
    old: Option<&'a Value>,
}

impl Request<'_> {
    fn refuse(&self, detail: &str) -> Result<(), ApiError> {
        Err(self.a.forbidden(self.object, detail))
    }

    fn require(&self, holds: bool, detail: impl FnOnce() -> String) -> Result<(), ApiError> {
        if holds { Ok(()) } else { self.refuse(&detail()) }
    }

    /// The name of the object: of the request, or, at a creation, of the object itself.
    fn name(&self) -> &str {
        match (self.a.name, self.object) {
            ("", Some(object)) => meta::name(object),
            (name, _) => name,
        }
    }
}

impl NodeRestriction {
    pub fn new(reader: Arc<dyn Reader>, authorizer: Arc<dyn Authorizer>) -> Self {
        NodeRestriction { reader, authorizer }
    }

    async fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, ApiError> {
        let key = GroupResource::new("", resource);
        match self.reader.get(key, namespace, name) {
            Some(found) => Ok(Some(found)),
            None => self.reader.get_consistent(key, namespace, name).await,
        }
    }

    async fn check(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let a = request.a;
        match (a.resource.group.as_str(), a.resource.resource.as_str(), a.subresource) {
            ("", "pods", "") => self.pod(request).await,
            ("", "pods", "status") => pods::status(request),
            ("", "pods", "eviction") => self.eviction(request).await,
            ("", "pods", other) => {
                let detail = format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed");
                request.refuse(&detail)
            }
            ("", "nodes", _) => nodes::check(request),
            ("", "persistentvolumeclaims", "status") => claim_status(request),
            ("", "persistentvolumeclaims", _) => request.refuse("may only update PVC status"),
            ("", "serviceaccounts", "token") => self.token(request).await,
            ("coordination.k8s.io", "leases", _) => lease(request),
            ("storage.k8s.io", "csinodes", _) => request.require(request.name() == request.node, || {
                "can only access CSINode with the same name as the requesting node".to_owned()
            }),
            ("resource.k8s.io", "resourceslices", _) => resource_slice(request),
            ("certificates.k8s.io", "certificatesigningrequests", "") => signing_request(request),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.operation != Operation::Connect && a.user.node_name().is_some()
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(node) = a.user.node_name() else { return Ok(()) };
        self.check(&Request { a, node, object, old }).await
    }
}

fn lease(request: &Request<'_>) -> Result<(), ApiError> {
    request.require(request.a.namespace == LEASE_NAMESPACE, || {
        format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace")
    })?;
    request.require(request.name() == request.node, || {
        "can only access node lease with the same name as the requesting node".to_owned()
    })
}

fn resource_slice(request: &Request<'_>) -> Result<(), ApiError> {
    let slices = request.object.into_iter().chain(request.old);
    let own = slices.into_iter().all(|slice| text(slice, "/spec/nodeName") == request.node);
    request.require(own, || "can only create ResourceSlice with the same NodeName as the requesting node".to_owned())
}

/// Only what the kubelet learns while it resizes a volume may change.
fn claim_status(request: &Request<'_>) -> Result<(), ApiError> {
    let (Some(object), Some(old)) = (request.object, request.old) else {
        return request.refuse("may only update PVC status");
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in [
            "capacity",
            "conditions",
            "allocatedResources",
            "allocatedResourceStatuses",
            "currentVolumeAttributesClassName",
            "modifyVolumeStatus",
        ] {
            if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
                status.remove(field);
            }
        }
        meta::remove(&mut claim, "managedFields");
        meta::remove(&mut claim, "resourceVersion");
        claim
    };
    request.require(rest(object) == rest(old), || {
        format!(
            "node {:?} is not allowed to update fields other than status.capacity and status.conditions",
            request.node
        )
    })
}

/// A request for a kubelet's own certificate must name this kubelet.
fn signing_request(request: &Request<'_>) -> Result<(), ApiError> {
    let (Some(object), Operation::Create) = (request.object, request.a.operation) else { return Ok(()) };
    let signer = text(object, "/spec/signerName");
    if !["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"].contains(&signer) {
        return Ok(());
    }
    let Some(name) = crate::plugins::csr::common_name(object) else {
        return request.refuse("unable to parse csr");
    };
    request
        .require(name == request.a.user.name, || format!("can only create a node CSR with CN={}", request.a.user.name))
}

#[cfg(test)]
mod tests;
