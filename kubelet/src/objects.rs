//! ConfigMaps, Secrets, Services, RuntimeClasses and tokens that pods use, from the API. Without an API server there are none.

mod watched;

use std::sync::Arc;

use component_base::informer::{Informer, Informers};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Notify;

use crate::pod::references;
use watched::Watched;

/// Why an object that a pod needs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("{kind} {namespace}/{name} cannot be read")]
    Api {
        kind: &'static str,
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{0} needs an API server, and this kubelet has none")]
    NoApi(&'static str),
}

/// Access to the API's objects for pods.
pub struct Objects {
    api: Option<Access>,
}

struct Access {
    client: Client,
    informers: Informers,
    services: Informer<Service>,
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
}

impl Objects {
    /// With the informers of an API server, or without one. Must be called within a tokio runtime.
    pub fn new(informers: Option<&Informers>) -> Self {
        let access = |informers: &Informers| Access {
            client: informers.client().clone(),
            informers: informers.clone(),
            services: informers.get(),
            config_maps: Watched::new(informers.client().clone()),
            secrets: Watched::new(informers.client().clone()),
        };
        Self { api: informers.map(access) }
    }

    fn access(&self, what: &'static str) -> Result<&Access, Unavailable> {
        self.api.as_ref().ok_or(Unavailable::NoApi(what))
    }

    /// Follows the ConfigMaps and Secrets that the pod names; `changed` is set off when one is not what the pod was given.
    pub fn follow(&self, pod: &Pod, changed: &Arc<Notify>) {
        // Static pods may name no objects of the API.
        let Some(access) = self.api.as_ref().filter(|_| !crate::pod::is_static(pod)) else { return };
        let references = references::of(pod);
        let (uid, namespace) = (crate::pod::uid(pod), crate::pod::namespace(pod));
        access.config_maps.follow(uid, namespace, &references.config_maps, changed);
        access.secrets.follow(uid, namespace, &references.secrets, changed);
    }

    /// Ends what [`Objects::follow`] began.
    pub fn forget(&self, pod: &Pod) {
        let nothing = Pod { metadata: pod.metadata.clone(), ..Default::default() };
        self.follow(&nothing, &Arc::default());
    }

    /// The Services of which a pod in that namespace gets variables: `kubernetes` always, the namespace's own with links.
    pub fn services(&self, namespace: &str, links: bool) -> Vec<Arc<Service>> {
        let Some(access) = &self.api else { return Vec::new() };
        let store = access.services.store();
        let mut services = if links { store.list_namespace(namespace) } else { Vec::new() };
        let known = services.iter().any(|service| service.metadata.name.as_deref() == Some("kubernetes"));
        if !known && let Some(master) = store.find("default", "kubernetes") {
            services.push(master);
        }
        services
    }

    /// Waits until Services are known, so that variables are complete.
    pub async fn ready(&self) {
        if let Some(access) = &self.api {
            access.services.synced().await;
        }
    }

    /// The handler that a RuntimeClass names.
    pub async fn runtime_handler(&self, class: &str) -> Result<String, Unavailable> {
        let classes = self.access("a RuntimeClass")?.informers.get::<RuntimeClass>();
        classes.synced().await;
        let missing = || Unavailable::NotFound { kind: "RuntimeClass.node.k8s.io", name: class.to_owned() };
        classes.store().find("", class).map(|class| class.handler.clone()).ok_or_else(missing)
    }

    /// `None` only where it is optional and does not exist.
    pub async fn config_map(
        &self,
        pod: &Pod,
        name: &str,
        optional: bool,
    ) -> Result<Option<Arc<ConfigMap>>, Unavailable> {
        let maps = &self.access("a ConfigMap")?.config_maps;
        let namespace = crate::pod::namespace(pod);
        found("configmap", namespace, name, optional, maps.get(crate::pod::uid(pod), namespace, name).await)
    }

    /// `None` only where it is optional and does not exist.
    pub async fn secret(&self, pod: &Pod, name: &str, optional: bool) -> Result<Option<Arc<Secret>>, Unavailable> {
        let secrets = &self.access("a Secret")?.secrets;
        let namespace = crate::pod::namespace(pod);
        found("secret", namespace, name, optional, secrets.get(crate::pod::uid(pod), namespace, name).await)
    }

    /// A service account token bound to the pod: the token and when it expires.
    pub async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<(String, jiff::Timestamp), Unavailable> {
        let namespace = crate::pod::namespace(pod);
        let name = crate::pod::spec(pod).service_account_name.as_deref().unwrap_or("default");
        let api: Api<ServiceAccount> =
            Api::namespaced(self.access("a service account token")?.client.clone(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.map(str::to_owned).into_iter().collect()),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..Default::default()
        };
        let answer = api.create_token_request(name, &PostParams::default(), &request).await;
        let answer = answer.map_err(|source| Unavailable::Api {
            kind: "a token of serviceaccount",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let status = answer.status.unwrap_or_default();
        let expires = status.expiration_timestamp.map_or_else(jiff::Timestamp::now, |time| time.0);
        Ok((status.token.unwrap_or_default(), expires))
    }
}

fn found<K>(
    kind: &'static str,
    namespace: &str,
    name: &str,
    optional: bool,
    answer: Result<Option<Arc<K>>, kube::Error>,
) -> Result<Option<Arc<K>>, Unavailable> {
    match answer {
        Ok(Some(object)) => Ok(Some(object)),
        Ok(None) if optional => Ok(None),
        Ok(None) => Err(Unavailable::NotFound { kind, name: name.to_owned() }),
        Err(source) => Err(Unavailable::Api {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        }),
    }
}
