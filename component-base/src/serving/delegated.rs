//! Who asks, and may they: answered by the API server (TokenReview and SubjectAccessReview), as upstream's components do, with short caches.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Guard, RequestHead, text};
use crate::pki::Certificate;

/// How long an answer is believed, as upstream's default for components.
const CACHE_TIME: Duration = Duration::from_secs(10);
/// Answers that are kept; when there are more, all are asked again.
const CACHE_SIZE: usize = 1024;

/// A user, as an authenticator found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The unique id, if there is one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// More, such as the token's pod.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// One who showed no credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }

    /// The user that a verified client certificate names.
    fn of_certificate(der: &[u8]) -> Option<Self> {
        let subject = Certificate::from_der(der).ok()?.subject;
        let mut groups = subject.organizations;
        groups.push("system:authenticated".to_owned());
        (!subject.common_name.is_empty()).then(|| Self { name: subject.common_name, groups, ..Self::default() })
    }
}

/// What a user wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reach a path: a lower-case method and the path.
    Path {
        /// The method, in lower case.
        verb: String,
        /// The path.
        path: String,
    },
    /// Something with a resource.
    Resource {
        /// The verb, such as `create`.
        verb: String,
        /// The API group.
        group: String,
        /// The resource, such as `nodes`.
        resource: String,
        /// The subresource, or empty.
        subresource: String,
        /// The object's name, or empty.
        name: String,
    },
}

/// Asks the API server. Clones share the caches.
#[derive(Clone)]
pub struct Delegated {
    authentication: Client,
    authorization: Client,
    tokens: Arc<Cache<String, Option<User>>>,
    decisions: Arc<Cache<(User, Access), bool>>,
}

struct Cache<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let now = Instant::now();
        self.0.lock().get(key).filter(|(_, until)| *until > now).map(|(value, _)| value.clone())
    }

    fn insert(&self, key: K, value: V) {
        let now = Instant::now();
        let mut map = self.0.lock();
        if map.len() >= CACHE_SIZE {
            map.retain(|_, (_, until)| *until > now);
        }
        if map.len() >= CACHE_SIZE {
            map.clear();
        }
        map.insert(key, (value, now + CACHE_TIME));
    }
}

impl Delegated {
    /// Asks these clients, which must be allowed to create `tokenreviews` and `subjectaccessreviews`.
    pub fn new(authentication: Client, authorization: Client) -> Self {
        Self { authentication, authorization, tokens: Arc::default(), decisions: Arc::default() }
    }

    /// Who asks: the client certificate first, then the bearer token; `None` when the token is not valid; anonymous without either.
    pub async fn authenticate(&self, head: &RequestHead) -> Result<Option<User>, kube::Error> {
        let certificate = head.peer.as_ref().and_then(|peer| peer.certificates.first());
        if let Some(user) = certificate.and_then(|certificate| User::of_certificate(certificate)) {
            return Ok(Some(user));
        }
        match &head.bearer_token {
            Some(token) => self.review(token).await,
            None => Ok(Some(User::anonymous())),
        }
    }

    async fn review(&self, token: &str) -> Result<Option<User>, kube::Error> {
        let key = token.to_owned();
        if let Some(known) = self.tokens.get(&key) {
            return Ok(known);
        }
        let spec = TokenReviewSpec { token: key.clone(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.authentication.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        self.tokens.insert(key, user.clone());
        Ok(user)
    }

    /// Whether the user may do this.
    pub async fn authorize(&self, user: &User, access: Access) -> Result<bool, kube::Error> {
        let key = (user.clone(), access);
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let review = SubjectAccessReview { spec: review_spec(user, &key.1), ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.authorization.clone());
        let allowed = api.create(&PostParams::default(), &review).await?.status.is_some_and(|status| status.allowed);
        self.decisions.insert(key, allowed);
        Ok(allowed)
    }

    /// As a guard of [`super::Routes`]: every path needs the right to it (`nonResourceURLs`).
    pub fn guard(self) -> Guard {
        Arc::new(move |head| {
            let delegated = self.clone();
            Box::pin(async move {
                let unavailable = |error: kube::Error| {
                    tracing::warn!(%error, "the API server cannot be asked about a request");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "authentication or authorization is unavailable\n")
                };
                let user = delegated.authenticate(&head).await.map_err(unavailable)?;
                let Some(user) = user else { return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized\n")) };
                let verb = head.method.as_str().to_ascii_lowercase();
                let access = Access::Path { verb: verb.clone(), path: head.path.clone() };
                if delegated.authorize(&user, access).await.map_err(unavailable)? {
                    return Ok(());
                }
                let refusal = format!("forbidden: User {:?} cannot {verb} path {:?}\n", user.name, head.path);
                Err(text(StatusCode::FORBIDDEN, refusal))
            })
        })
    }
}

fn review_spec(user: &User, access: &Access) -> SubjectAccessReviewSpec {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: some(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match access {
        Access::Path { verb, path } => {
            spec.non_resource_attributes =
                Some(NonResourceAttributes { verb: Some(verb.clone()), path: Some(path.clone()) });
        }
        Access::Resource { verb, group, resource, subresource, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some(verb.clone()),
                group: some(group),
                resource: Some(resource.clone()),
                subresource: some(subresource),
                name: some(name),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            });
        }
    }
    spec
}
