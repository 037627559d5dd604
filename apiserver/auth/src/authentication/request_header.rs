//! Front proxies: they authenticate users themselves, show a certificate of their own CA, and name the user in headers.
//!
//! Kubernetes documentation, "Authenticating Proxy".

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;

use super::certificates::ClientCa;
use super::token_cache::TokenCache;
use super::{AuthError, AuthRequest, Authenticated, Authenticator, x509};
use crate::UserInfo;
use crate::clock::Clock;

/// Which headers to read, and from whom.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// The proxies' common names; any if empty.
    pub allowed_names: Vec<String>,
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

/// Users that a front proxy vouches for.
pub struct RequestHeader {
    ca: ClientCa,
    headers: Headers,
    clock: Clock,
    proxies: TokenCache<String>,
}

impl RequestHeader {
    pub fn new(ca: ClientCa, headers: Headers, clock: Clock) -> Self {
        RequestHeader { ca, headers, clock, proxies: TokenCache::new(64, Duration::from_secs(60)) }
    }

    /// The name in the certificate of the proxy; none if the chain does not lead to the proxies' CA.
    fn proxy(&self, request: &AuthRequest<'_>) -> Option<String> {
        let now = (self.clock)();
        let parts = request.peer.iter().map(AsRef::as_ref);
        let verify = || {
            self.ca.verify(request.peer, now).map_err(AuthError::Certificate)?;
            x509::common_name(&request.peer[0])
        };
        self.proxies.get_or_try_insert(parts, now, verify).ok()
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        // Without the headers the certificate may still be a client's own, so a chain of another CA is no failure here.
        if request.peer.is_empty() || first(request.headers, &self.headers.username).is_none() {
            return Ok(None);
        }
        let Some(proxy) = self.proxy(request) else { return Ok(None) };
        if !self.headers.allowed_names.is_empty() && !self.headers.allowed_names.contains(&proxy) {
            return Err(AuthError::Certificate(format!("{proxy:?} is not the name of an allowed front proxy")));
        }
        Ok(user_of(request.headers, &self.headers).map(Authenticated::user))
    }
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let values = names.iter().filter_map(|name| headers.get(name.as_str())?.to_str().ok());
    values.map(str::trim).find(|value| !value.is_empty()).map(str::to_owned)
}

fn user_of(headers: &HeaderMap, config: &Headers) -> Option<UserInfo> {
    let name = first(headers, &config.username)?;
    let uid = first(headers, &config.uid).unwrap_or_default();
    let groups = config.group.iter().flat_map(|name| headers.get_all(name.as_str()));
    let groups = groups.filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    Some(UserInfo { name, uid, groups, extra: extra(headers, &config.extra_prefix) })
}

fn extra(headers: &HeaderMap, prefixes: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        for prefix in prefixes {
            let prefix = prefix.to_ascii_lowercase();
            if let Some(key) = name.as_str().strip_prefix(&prefix) {
                out.entry(unescape(key)).or_default().push(value.to_owned());
            }
        }
    }
    out
}

/// Undoes percent-encoding; what is not well encoded stays as it is.
pub fn unescape(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| key.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_user() {
        let config = Headers {
            username: vec!["X-Remote-User".into()],
            group: vec!["X-Remote-Group".into()],
            extra_prefix: vec!["X-Remote-Extra-".into()],
            uid: vec!["X-Remote-Uid".into()],
            ..Headers::default()
        };
        let mut headers = HeaderMap::new();
        assert_eq!(user_of(&headers, &config), None);
        headers.insert("x-remote-user", "jane".parse().expect("value"));
        headers.append("x-remote-group", "dev".parse().expect("value"));
        headers.append("x-remote-group", "ops".parse().expect("value"));
        headers.insert("x-remote-uid", "7".parse().expect("value"));
        headers.insert("x-remote-extra-example.com%2fscope", "a".parse().expect("value"));
        let user = user_of(&headers, &config).expect("a user");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.extra["example.com/scope"], ["a"]);
    }
}
