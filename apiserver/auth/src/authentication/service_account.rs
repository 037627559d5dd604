//! Service account tokens: signed by us, and bound to objects that must still exist.

use std::sync::Arc;
use std::time::Duration;

use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::Validation;
use serde_json::Value;

use super::token_cache::TokenCache;
use super::{AuthError, Authenticated, TokenAuthenticator};
use crate::clock::Clock;
use crate::object::{secret_text, text, uid};
use crate::tokens::claims::{Claims, Kubernetes, ObjectRef};
use crate::tokens::keys::PublicKey;
use crate::user::{CREDENTIAL_ID, UserInfo, service_account_groups, service_account_name};

/// The issuer of the older tokens that are kept in Secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// How many tokens' signatures are remembered as good.
const CACHE_ENTRIES: usize = 8192;
const CACHE_TTL: Duration = Duration::from_secs(600);
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;
/// How long tokens bound to an object that is being deleted still hold, so that pods can finish their work.
const DELETION_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Checks tokens of the given issuers.
pub struct ServiceAccount {
    issuers: Vec<String>,
    keys: Vec<PublicKey>,
    api_audiences: Vec<String>,
    /// Whether the account and the Secret of an older token are looked up.
    lookup: bool,
    reader: Arc<dyn Reader>,
    clock: Clock,
    verified: TokenCache<Arc<Claims>>,
}

impl ServiceAccount {
    pub fn new(
        issuers: Vec<String>,
        keys: Vec<PublicKey>,
        api_audiences: Vec<String>,
        lookup: bool,
        reader: Arc<dyn Reader>,
        clock: Clock,
    ) -> Self {
        let verified = TokenCache::new(CACHE_ENTRIES, CACHE_TTL);
        ServiceAccount { issuers, keys, api_audiences, lookup, reader, clock, verified }
    }

    /// Whether the token says that it is one of ours; decides who may complain about it.
    fn is_ours(&self, token: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct OnlyIssuer {
            iss: String,
        }
        let parsed = jsonwebtoken::dangerous::insecure_decode_claims::<OnlyIssuer>(token);
        parsed.is_ok_and(|claims| claims.iss == LEGACY_ISSUER || self.issuers.contains(&claims.iss))
    }

    /// The claims, if one of the keys has signed them.
    fn verify(&self, token: &str) -> Result<Arc<Claims>, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|e| AuthError::Token(e.to_string()))?;
        let (named, others): (Vec<_>, Vec<_>) = self.keys.iter().partition(|key| header.kid.as_ref() == Some(&key.id));
        for key in named.into_iter().chain(others) {
            if header.alg != key.algorithm {
                continue;
            }
            let mut rules = Validation::new(key.algorithm);
            // Times and audiences are checked on each use, not only when the signature is.
            (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
            rules.required_spec_claims.clear();
            if let Ok(data) = jsonwebtoken::decode::<Claims>(token, &key.decoding, &rules) {
                return Ok(Arc::new(data.claims));
            }
        }
        Err(AuthError::InvalidToken)
    }

    async fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, AuthError> {
        let key = GroupResource::new("", resource);
        if let Some(object) = self.reader.get(key, namespace, name) {
            return Ok(Some(object));
        }
        // The cache may not have seen yet what the token's issuer saw.
        self.reader.get_consistent(key, namespace, name).await.map_err(|e| AuthError::Internal(e.to_string()))
    }

    /// The object that a token is bound to must be there, be the same one, and not be gone for long.
    async fn bound(&self, resource: &str, namespace: &str, wanted: &ObjectRef) -> Result<Arc<Value>, AuthError> {
        let refuse = || AuthError::Token("service account token has been invalidated".into());
        let object = self.find(resource, namespace, &wanted.name).await?.ok_or_else(refuse)?;
        let deleted = text(&object, "/metadata/deletionTimestamp").parse::<Timestamp>();
        let gone = deleted.is_ok_and(|at| at < (self.clock)() - DELETION_GRACE);
        if uid(&object) != wanted.uid || gone { Err(refuse()) } else { Ok(object) }
    }

    async fn bound_user(&self, claims: &Claims, kubernetes: &Kubernetes) -> Result<UserInfo, AuthError> {
        let namespace = kubernetes.namespace.as_str();
        check_times(claims, (self.clock)().as_second())?;
        self.bound("serviceaccounts", namespace, &kubernetes.serviceaccount).await?;
        if let Some(secret) = &kubernetes.secret {
            self.bound("secrets", namespace, secret).await?;
        }
        if let Some(pod) = &kubernetes.pod {
            self.bound("pods", namespace, pod).await?;
        } else if let Some(node) = &kubernetes.node {
            self.bound("nodes", "", node).await?;
        }
        let account = &kubernetes.serviceaccount;
        Ok(UserInfo {
            name: service_account_name(namespace, &account.name),
            uid: account.uid.clone(),
            groups: service_account_groups(namespace),
            extra: extra(claims, kubernetes),
        })
    }

    async fn legacy_user(&self, token: &str, claims: &Claims) -> Result<UserInfo, AuthError> {
        let field = |value: &Option<String>, what: &str| {
            let value = value.clone().unwrap_or_default();
            if value.is_empty() { Err(AuthError::Token(format!("{what} claim is missing"))) } else { Ok(value) }
        };
        let namespace = field(&claims.legacy_namespace, "namespace")?;
        let secret = field(&claims.legacy_secret, "secretName")?;
        let name = field(&claims.legacy_name, "serviceAccountName")?;
        let account_uid = field(&claims.legacy_uid, "serviceAccountUID")?;
        if claims.sub != service_account_name(&namespace, &name) {
            return Err(AuthError::Token("sub claim is invalid".into()));
        }
        if self.lookup {
            let stored = self.find("secrets", &namespace, &secret).await?;
            let same = stored.is_some_and(|stored| {
                text(&stored, "/metadata/deletionTimestamp").is_empty()
                    && secret_text(&stored, "token").as_deref() == Some(token)
            });
            if !same {
                return Err(AuthError::Token("token has been invalidated".into()));
            }
            self.bound("serviceaccounts", &namespace, &ObjectRef { name: name.clone(), uid: account_uid.clone() })
                .await?;
        }
        Ok(UserInfo {
            name: service_account_name(&namespace, &name),
            uid: account_uid,
            groups: service_account_groups(&namespace),
            ..UserInfo::default()
        })
    }
}

#[async_trait]
impl TokenAuthenticator for ServiceAccount {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, AuthError> {
        if !self.is_ours(token) {
            return Ok(None);
        }
        let claims = self.verified.get_or_try_insert([token.as_bytes()], (self.clock)(), || self.verify(token))?;
        let legacy = claims.iss == LEGACY_ISSUER;
        let meant_for = if legacy || claims.aud.is_empty() { &self.api_audiences } else { &claims.aud };
        let matching: Vec<String> = audiences.iter().filter(|a| meant_for.contains(a)).cloned().collect();
        if matching.is_empty() {
            return Err(AuthError::Token(format!(
                "token audiences {meant_for:?} is invalid for the target audiences {audiences:?}"
            )));
        }
        let user = match &claims.kubernetes {
            _ if legacy => self.legacy_user(token, &claims).await?,
            Some(kubernetes) => self.bound_user(&claims, kubernetes).await?,
            None => return Err(AuthError::Token("the claim kubernetes.io is missing".into())),
        };
        Ok(Some(Authenticated { user, audiences: matching }))
    }
}

fn check_times(claims: &Claims, now: i64) -> Result<(), AuthError> {
    match (claims.exp, claims.nbf) {
        (Some(exp), _) if now > exp + LEEWAY_SECONDS => {
            Err(AuthError::Token("service account token has expired".into()))
        }
        (None, _) => Err(AuthError::Token("the claim exp is missing".into())),
        (_, Some(nbf)) if now + LEEWAY_SECONDS < nbf => {
            Err(AuthError::Token("service account token is not valid yet".into()))
        }
        _ => Ok(()),
    }
}

fn extra(claims: &Claims, kubernetes: &Kubernetes) -> std::collections::BTreeMap<String, Vec<String>> {
    let pod = kubernetes.pod.as_ref();
    let node = kubernetes.node.as_ref();
    let credential = (!claims.jti.is_empty()).then(|| format!("JTI={}", claims.jti));
    let entries = [
        (CREDENTIAL_ID, credential),
        ("authentication.kubernetes.io/pod-name", pod.map(|pod| pod.name.clone())),
        ("authentication.kubernetes.io/pod-uid", pod.map(|pod| pod.uid.clone())),
        ("authentication.kubernetes.io/node-name", node.map(|node| node.name.clone())),
        ("authentication.kubernetes.io/node-uid", node.map(|node| node.uid.clone())),
    ];
    let present = entries.into_iter().filter_map(|(key, value)| Some((key, value.filter(|v| !v.is_empty())?)));
    present.map(|(key, value)| (key.to_owned(), vec![value])).collect()
}
