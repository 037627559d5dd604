//! ConfigMaps, Secrets, Services and tokens that pods use, from the API. Without an API server there are none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component_base::informer::Informer;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

/// The certificate bundle that every pod mounts; it changes almost never.
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_AGE: Duration = Duration::from_secs(60);

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
    client: Option<Client>,
    services: Option<Informer<Service>>,
    root_ca: Mutex<HashMap<String, (Instant, Arc<ConfigMap>)>>,
}

impl Objects {
    pub fn new(client: Option<Client>, services: Option<Informer<Service>>) -> Self {
        Self { client, services, root_ca: Mutex::default() }
    }

    /// The Services of which a pod in that namespace gets variables: `kubernetes` always, the namespace's own with links.
    pub fn services(&self, namespace: &str, links: bool) -> Vec<Arc<Service>> {
        let Some(informer) = &self.services else { return Vec::new() };
        let store = informer.store();
        let mut services = if links { store.list_namespace(namespace) } else { Vec::new() };
        let known = services.iter().any(|service| service.metadata.name.as_deref() == Some("kubernetes"));
        if !known && let Some(master) = store.find("default", "kubernetes") {
            services.push(master);
        }
        services
    }

    /// Waits until Services are known, so that variables are complete.
    pub async fn ready(&self) {
        if let Some(services) = &self.services {
            services.synced().await;
        }
    }

    fn client(&self, what: &'static str) -> Result<Client, Unavailable> {
        self.client.clone().ok_or(Unavailable::NoApi(what))
    }

    /// `None` only where it is optional and does not exist.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Arc<ConfigMap>>, Unavailable> {
        let fresh = |(at, map): &(Instant, Arc<ConfigMap>)| (at.elapsed() < ROOT_CA_AGE).then(|| Arc::clone(map));
        if name == ROOT_CA
            && let Some(map) = self.root_ca.lock().get(namespace).and_then(fresh)
        {
            return Ok(Some(map));
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client("a ConfigMap")?, namespace);
        let found = found("configmap", namespace, name, optional, api.get_opt(name).await)?;
        if name == ROOT_CA
            && let Some(map) = &found
        {
            self.root_ca.lock().insert(namespace.to_owned(), (Instant::now(), Arc::clone(map)));
        }
        Ok(found)
    }

    /// `None` only where it is optional and does not exist.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Arc<Secret>>, Unavailable> {
        let api: Api<Secret> = Api::namespaced(self.client("a Secret")?, namespace);
        found("secret", namespace, name, optional, api.get_opt(name).await)
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
        let api: Api<ServiceAccount> = Api::namespaced(self.client("a service account token")?, namespace);
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
    answer: Result<Option<K>, kube::Error>,
) -> Result<Option<Arc<K>>, Unavailable> {
    match answer {
        Ok(Some(object)) => Ok(Some(Arc::new(object))),
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
