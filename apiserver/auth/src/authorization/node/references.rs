//! What a pod or a persistent volume needs, by name.

use apimachinery::tree::at;
use serde_json::Value;

use crate::object::{items, name, text};

/// Kinds of objects that a node's rights are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    ResourceClaim,
    Attachment,
    ResourceSlice,
}

/// The annotation of pods that only mirror a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// What of a pod says what it needs.
pub const MEMBERS_OF_POD: &[&[&str]] = &[
    &["spec"],
    &["metadata", "annotations"],
    &["status", "resourceClaimStatuses"],
    &["status", "extendedResourceClaimStatus"],
];

/// Whether the pod mirrors a static pod of its node.
pub fn is_mirror(pod: &Value) -> bool {
    at(pod, "/metadata/annotations").and_then(|a| a.get(MIRROR)).is_some()
}

/// Whatever a pod names: the kind, and the name in the pod's namespace. Names may come more than once.
pub fn of_pod<'a>(pod: &'a Value, visit: &mut dyn FnMut(Kind, &'a str)) {
    let mut see = |kind, name: &'a str| {
        if !name.is_empty() {
            visit(kind, name);
        }
    };
    see(Kind::ServiceAccount, text(pod, "/spec/serviceAccountName"));
    for secret in items(pod, "/spec/imagePullSecrets") {
        see(Kind::Secret, text(secret, "/name"));
    }
    for list in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
        for container in items(pod, list) {
            of_container(container, &mut see);
        }
    }
    for volume in items(pod, "/spec/volumes") {
        of_volume(volume, &mut see);
    }
    for claim in items(pod, "/spec/resourceClaims") {
        see(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    for claim in items(pod, "/status/resourceClaimStatuses") {
        see(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    see(Kind::ResourceClaim, text(pod, "/status/extendedResourceClaimStatus/resourceClaimName"));
}

/// The claims of a pod's generic ephemeral volumes: named after the pod and the volume.
pub fn ephemeral_claims(pod: &Value) -> impl Iterator<Item = String> {
    let volumes = items(pod, "/spec/volumes").iter().filter(|volume| volume.get("ephemeral").is_some());
    volumes.map(|volume| format!("{}-{}", name(pod), text(volume, "/name")))
}

fn of_container<'a>(container: &'a Value, see: &mut dyn FnMut(Kind, &'a str)) {
    for source in items(container, "/envFrom") {
        see(Kind::Secret, text(source, "/secretRef/name"));
        see(Kind::ConfigMap, text(source, "/configMapRef/name"));
    }
    for variable in items(container, "/env") {
        see(Kind::Secret, text(variable, "/valueFrom/secretKeyRef/name"));
        see(Kind::ConfigMap, text(variable, "/valueFrom/configMapKeyRef/name"));
    }
}

fn of_volume<'a>(volume: &'a Value, see: &mut dyn FnMut(Kind, &'a str)) {
    see(Kind::Claim, text(volume, "/persistentVolumeClaim/claimName"));
    see(Kind::ConfigMap, text(volume, "/configMap/name"));
    see(Kind::Secret, text(volume, "/secret/secretName"));
    see(Kind::Secret, text(volume, "/csi/nodePublishSecretRef/name"));
    see(Kind::Secret, text(volume, "/azureFile/secretName"));
    for driver in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
        if let Some(source) = volume.get(driver) {
            see(Kind::Secret, text(source, "/secretRef/name"));
        }
    }
    for source in items(volume, "/projected/sources") {
        see(Kind::Secret, text(source, "/secret/name"));
        see(Kind::ConfigMap, text(source, "/configMap/name"));
    }
}

/// The Secrets that a persistent volume names: namespace and name. Where no namespace is given it is that of the claim.
pub fn of_volume_object<'a>(volume: &'a Value, visit: &mut dyn FnMut(&'a str, &'a str)) {
    let claim_namespace = text(volume, "/spec/claimRef/namespace");
    let mut see = |reference: &'a Value| {
        let (own, name) = (text(reference, "/namespace"), text(reference, "/name"));
        if !name.is_empty() {
            visit(if own.is_empty() { claim_namespace } else { own }, name);
        }
    };
    for pointer in [
        "/spec/cephfs/secretRef",
        "/spec/cinder/secretRef",
        "/spec/flexVolume/secretRef",
        "/spec/rbd/secretRef",
        "/spec/scaleIO/secretRef",
        "/spec/iscsi/secretRef",
        "/spec/storageos/secretRef",
        "/spec/csi/controllerPublishSecretRef",
        "/spec/csi/controllerExpandSecretRef",
        "/spec/csi/nodePublishSecretRef",
        "/spec/csi/nodeStageSecretRef",
        "/spec/csi/nodeExpandSecretRef",
    ] {
        if let Some(reference) = at(volume, pointer) {
            see(reference);
        }
    }
    if let Some(azure) = at(volume, "/spec/azureFile") {
        let (own, name) = (text(azure, "/secretNamespace"), text(azure, "/secretName"));
        if !name.is_empty() {
            visit(if own.is_empty() { claim_namespace } else { own }, name);
        }
    }
}
