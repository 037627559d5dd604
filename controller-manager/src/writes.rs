//! Writes that many controllers make.

use std::fmt::Debug;

use component_base::client::{is_conflict, is_not_found, unless_gone};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes an object's status. One that is gone needs none.
pub async fn replace_status<K>(client: &Client, object: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
{
    let meta = object.meta();
    let api: Api<K> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.as_deref().unwrap_or_default();
    unless_gone(api.replace_status(name, &PostParams::default(), object).await).map(drop)
}

/// Deletes exactly this object, not a later one of its name. Says whether it did; it is no failure if the object is gone.
pub async fn delete<K>(api: &Api<K>, meta: &ObjectMeta) -> Result<bool, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    match api.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
