//! Who asks, and may they: client certificates and TokenReview, then SubjectAccessReview on the node. Answers are remembered for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component_base::serving::{Body, RequestHead, text};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::agent::Agent;

/// Most remembered answers.
const MAX_CACHE: usize = 1024;

/// Someone who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    uid: String,
    groups: Vec<String>,
}

struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        let cache = self.0.lock();
        let (until, value) = cache.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, ttl: Duration) {
        let mut cache = self.0.lock();
        if cache.len() >= MAX_CACHE {
            let now = Instant::now();
            cache.retain(|_, (until, _)| *until > now);
            if cache.len() >= MAX_CACHE {
                cache.clear();
            }
        }
        cache.insert(key, (Instant::now() + ttl, value));
    }
}

/// Decides about requests.
pub struct Auth {
    client: Option<Client>,
    node: String,
    anonymous: bool,
    webhook: bool,
    token_ttl: Duration,
    always_allow: bool,
    allowed_ttl: Duration,
    denied_ttl: Duration,
    tokens: Cache<String, Option<User>>,
    access: Cache<(User, &'static str, &'static str), bool>,
}

/// The verb that a request needs, and the subresources of `nodes`, of which one is enough. Pure.
///
/// `proxy` is everything that has no name of its own, and for a while was also what got names since (Kubernetes documentation,
/// "Kubelet authentication/authorization").
fn attributes(method: &Method, path: &str) -> (&'static str, &'static [&'static str]) {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let subresources: &[&str] = match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    };
    (verb, subresources)
}

impl Auth {
    pub fn new(agent: &Arc<Agent>) -> Self {
        let config = &agent.config;
        Self {
            client: agent.client.clone(),
            node: agent.node_name.clone(),
            anonymous: config.authentication.anonymous.enabled,
            webhook: config.authentication.webhook.enabled,
            token_ttl: config.authentication.webhook.cache_ttl.0,
            always_allow: config.authorization.mode == "AlwaysAllow",
            allowed_ttl: config.authorization.webhook.cache_authorized_ttl.0,
            denied_ttl: config.authorization.webhook.cache_unauthorized_ttl.0,
            tokens: Cache::new(),
            access: Cache::new(),
        }
    }

    /// `Err` is the answer to a request that may not pass.
    pub async fn check(&self, request: &Request<Incoming>) -> Result<(), Response<Body>> {
        let head = RequestHead::of(request);
        let user = self.authenticate(&head).await?;
        if self.always_allow {
            return Ok(());
        }
        let (verb, subresources) = attributes(&head.method, &head.path);
        for subresource in subresources {
            if self.allowed(&user, verb, subresource).await? {
                return Ok(());
            }
        }
        let tried = subresources.join(" ");
        let message =
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{tried}])\n", user.name);
        Err(text(StatusCode::FORBIDDEN, message))
    }

    async fn authenticate(&self, head: &RequestHead) -> Result<User, Response<Body>> {
        if let Some(user) = head.peer.as_ref().and_then(|peer| of_certificate(peer.certificates.first()?)) {
            return Ok(user);
        }
        if let Some(token) = &head.bearer_token
            && self.webhook
            && let Some(user) = self.of_token(token).await?
        {
            return Ok(user);
        }
        if self.anonymous && head.bearer_token.is_none() {
            return Ok(User {
                name: "system:anonymous".into(),
                uid: String::new(),
                groups: vec!["system:unauthenticated".into()],
            });
        }
        Err(text(StatusCode::UNAUTHORIZED, "Unauthorized"))
    }

    async fn of_token(&self, token: &str) -> Result<Option<User>, Response<Body>> {
        if let Some(known) = self.tokens.get(&token.to_owned()) {
            return Ok(known);
        }
        let Some(client) = self.client.clone() else { return Ok(None) };
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..Default::default() };
        let answer =
            Api::<TokenReview>::all(client).create(&PostParams::default(), &review).await.map_err(unavailable)?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        self.tokens.put(token.to_owned(), user.clone(), self.token_ttl);
        Ok(user)
    }

    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Response<Body>> {
        let key = (user.clone(), verb, subresource);
        if let Some(known) = self.access.get(&key) {
            return Ok(known);
        }
        let Some(client) = self.client.clone() else { return Ok(false) };
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(subresource.to_owned()),
            name: Some(self.node.clone()),
            ..Default::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(attributes),
            ..Default::default()
        };
        let review = SubjectAccessReview { spec, ..Default::default() };
        let answer = Api::<SubjectAccessReview>::all(client)
            .create(&PostParams::default(), &review)
            .await
            .map_err(unavailable)?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.access.put(key, allowed, if allowed { self.allowed_ttl } else { self.denied_ttl });
        Ok(allowed)
    }
}

fn unavailable(error: kube::Error) -> Response<Body> {
    tracing::warn!(%error, "the API server cannot be asked about a request");
    text(StatusCode::INTERNAL_SERVER_ERROR, "the API server cannot be asked whether this is allowed\n")
}

/// The certificate's common name and organizations; TLS has verified who signed it.
fn of_certificate(der: &rustls_pki_types::CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| Some(o.as_str().ok()?.to_owned())).collect();
    groups.push("system:authenticated".into());
    Some(User { name, uid: String::new(), groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_need_rights_on_the_nodes_subresources() {
        for (method, path, verb, subresources) in [
            (Method::GET, "/pods", "get", &["pods", "proxy"][..]),
            (Method::GET, "/runningpods/", "get", &["pods", "proxy"]),
            (Method::GET, "/metrics/resource", "get", &["metrics"]),
            (Method::GET, "/stats/summary", "get", &["stats"]),
            (Method::GET, "/healthz", "get", &["healthz", "proxy"]),
            (Method::GET, "/containerLogs/a/b/c", "get", &["proxy"]),
            (Method::POST, "/exec/a/b/c", "create", &["proxy"]),
            (Method::POST, "/run/a/b/c", "create", &["proxy"]),
            (Method::GET, "/portForward/a/b", "get", &["proxy"]),
            (Method::GET, "/", "get", &["proxy"]),
        ] {
            assert_eq!(attributes(&method, path), (verb, subresources), "{path}");
        }
    }
}
