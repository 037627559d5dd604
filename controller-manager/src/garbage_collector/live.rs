//! The objects as the API server has them now, by metadata alone.

use component_base::client::{is_conflict, is_not_found};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use serde_json::json;

use super::graph::Object;
use crate::discovery::Resource;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// The object changed in the meantime: look again.
    Changed,
}

pub fn api(client: &Client, resource: &Resource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) if resource.namespaced => Api::namespaced_with(client.clone(), namespace, &resource.api),
        _ => Api::all_with(client.clone(), &resource.api),
    }
}

/// The API of the object's resource, where the object is.
pub fn api_of(client: &Client, object: &Object) -> Api<DynamicObject> {
    api(client, &object.resource, object.namespace.as_deref())
}

/// The metadata of the object of that name, if its uid is this one.
pub async fn get(api: &Api<DynamicObject>, name: &str, uid: &str) -> Result<Option<ObjectMeta>, kube::Error> {
    let found = api.get_metadata_opt(name).await?;
    Ok(found.map(|object| object.metadata).filter(|meta| meta.uid.as_deref() == Some(uid)))
}

/// Deletes exactly this state of the object.
pub async fn delete(
    api: &Api<DynamicObject>,
    meta: &ObjectMeta,
    policy: PropagationPolicy,
) -> Result<Written, kube::Error> {
    let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    written(api.delete(meta.name.as_deref().unwrap_or_default(), &params).await.map(drop))
}

pub async fn set_owners(
    api: &Api<DynamicObject>,
    meta: &ObjectMeta,
    owners: &[OwnerReference],
) -> Result<Written, kube::Error> {
    patch(api, meta, json!({"ownerReferences": owners})).await
}

pub async fn remove_finalizer(
    api: &Api<DynamicObject>,
    meta: &ObjectMeta,
    finalizer: &str,
) -> Result<Written, kube::Error> {
    let left: Vec<_> = meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
    if left.len() == meta.finalizers.as_ref().map_or(0, Vec::len) {
        return Ok(Written::Done);
    }
    patch(api, meta, json!({"finalizers": left})).await
}

async fn patch(
    api: &Api<DynamicObject>,
    meta: &ObjectMeta,
    mut change: serde_json::Value,
) -> Result<Written, kube::Error> {
    change["uid"] = json!(meta.uid);
    change["resourceVersion"] = json!(meta.resource_version);
    let patch = Patch::Merge(json!({"metadata": change}));
    let name = meta.name.as_deref().unwrap_or_default();
    written(api.patch_metadata(name, &PatchParams::default(), &patch).await.map(drop))
}

fn written(outcome: Result<(), kube::Error>) -> Result<Written, kube::Error> {
    match outcome {
        Ok(()) => Ok(Written::Done),
        Err(error) if is_not_found(&error) => Ok(Written::Done),
        Err(error) if is_conflict(&error) => Ok(Written::Changed),
        Err(error) => Err(error),
    }
}
