//! What all tests start with: a control plane, objects, and waiting for them.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Result;
use e2e::{ControlPlane, Options};
use k8s_openapi::NamespaceResourceScope;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long a test waits for what it demands.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// etcd, kube-apiserver and kube-controller-manager, with these flags for the last.
pub async fn control_plane(flags: &[(&str, &str)]) -> Result<ControlPlane> {
    let controller_manager_flags =
        flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ControlPlane::start_with(Options { controller_manager: true, controller_manager_flags, ..Options::default() }).await
}

/// A pod template of one container with a named port.
pub fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": image, "ports": [{ "name": "web", "containerPort": 8080 }] }] },
    })
}

/// Makes an object in the namespace `default`.
pub async fn create<K>(client: &Client, object: Value) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// Waits until an object is as demanded, or gone where `demand` takes `None`.
pub async fn until<K>(what: &str, api: Api<K>, name: &str, demand: impl Fn(Option<&K>) -> bool) -> Result<Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let met = kube::runtime::wait::await_condition(api.clone(), name, |object: Option<&K>| demand(object));
    match tokio::time::timeout(PATIENCE, met).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => anyhow::bail!("{what}: {:?}", api.get_opt(name).await?),
    }
}
