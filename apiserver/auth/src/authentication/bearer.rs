//! Bearer tokens, from the `Authorization` header or from a WebSocket's list of subprotocols.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};

use super::{AuthError, AuthRequest, Authenticated, Authenticator, TokenAuthenticator};

/// Before a token in base64url, as browsers' WebSockets send it (they cannot set headers).
pub const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Asks each token authenticator in turn.
pub struct Bearer {
    authenticators: Vec<Arc<dyn TokenAuthenticator>>,
    api_audiences: Vec<String>,
}

impl Bearer {
    /// `api_audiences` are what a token must be meant for where the request asks for nothing else.
    pub fn new(authenticators: Vec<Arc<dyn TokenAuthenticator>>, api_audiences: Vec<String>) -> Self {
        Bearer { authenticators, api_audiences }
    }

    async fn verify(&self, token: &str, audiences: &[String]) -> Result<Authenticated, AuthError> {
        let audiences = if audiences.is_empty() { &self.api_audiences } else { audiences };
        let mut failures = Vec::new();
        for authenticator in &self.authenticators {
            match authenticator.authenticate(token, audiences).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => failures.push(error),
            }
        }
        match failures.len() {
            0 => Err(AuthError::InvalidToken),
            1 => Err(failures.remove(0)),
            _ => Err(AuthError::Several(failures)),
        }
    }
}

#[async_trait]
impl Authenticator for Bearer {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        if let Some(token) = from_header(request.headers) {
            return self.verify(token, request.audiences).await.map(Some);
        }
        match from_websocket(request.headers)? {
            Some(token) => self.verify(&token, request.audiences).await.map(Some),
            None => Ok(None),
        }
    }
}

fn from_header(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn from_websocket(headers: &HeaderMap) -> Result<Option<String>, AuthError> {
    let upgrades =
        headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    if !upgrades {
        return Ok(None);
    }
    let mut found = None;
    for protocol in subprotocols(headers) {
        let Some(encoded) = protocol.strip_prefix(WEBSOCKET_PREFIX) else { continue };
        if found.is_some() {
            return Err(AuthError::Token("more than one token in the list of subprotocols".into()));
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|e| AuthError::Token(e.to_string()))?;
        found = Some(String::from_utf8(bytes).map_err(|e| AuthError::Token(e.to_string()))?);
    }
    match found {
        Some(token) if token.is_empty() => Err(AuthError::Token("the token is empty".into())),
        other => Ok(other),
    }
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// Takes the token out of a WebSocket request's subprotocols, so that it goes no further (a proxied kubelet, an answer).
pub fn strip_websocket_token(headers: &mut HeaderMap) {
    let kept: Vec<String> =
        subprotocols(headers).filter(|p| !p.starts_with(WEBSOCKET_PREFIX)).map(str::to_owned).collect();
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = http::HeaderValue::try_from(kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserInfo;

    struct Only(&'static str);

    #[async_trait]
    impl TokenAuthenticator for Only {
        async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, AuthError> {
            let user = UserInfo { name: "jane".into(), ..UserInfo::default() };
            Ok((token == self.0).then(|| Authenticated { user, audiences: audiences.to_vec() }))
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().expect("name"), v.parse().expect("value"))).collect()
    }

    #[tokio::test]
    async fn tokens_are_found_in_headers_and_subprotocols() {
        let bearer = Bearer::new(vec![Arc::new(Only("t"))], vec!["api".into()]);
        let socket = format!("v5.channel.k8s.io, {WEBSOCKET_PREFIX}dA");
        type Case<'a> = (&'a [(&'static str, &'a str)], Result<bool, AuthError>);
        let cases: [Case<'_>; 7] = [
            (&[], Ok(false)),
            (&[("authorization", "Bearer t")], Ok(true)),
            (&[("authorization", "bearer  t ")], Ok(true)),
            (&[("authorization", "Basic t")], Ok(false)),
            (&[("authorization", "Bearer x")], Err(AuthError::InvalidToken)),
            (&[("upgrade", "websocket"), ("sec-websocket-protocol", &socket)], Ok(true)),
            (&[("sec-websocket-protocol", &socket)], Ok(false)),
        ];
        for (pairs, wanted) in cases {
            let headers = headers(pairs);
            let found = bearer.authenticate(&AuthRequest { headers: &headers, peer: &[], audiences: &[] }).await;
            assert_eq!(found.as_ref().map(|f| f.is_some()).map_err(Clone::clone), wanted, "{pairs:?}");
            if let Ok(Some(found)) = found {
                assert_eq!(found.audiences, ["api"]);
            }
        }
    }

    #[test]
    fn a_token_does_not_travel_on() {
        let mut headers = headers(&[("sec-websocket-protocol", &format!("{WEBSOCKET_PREFIX}dA, v5.channel.k8s.io"))]);
        strip_websocket_token(&mut headers);
        assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    }
}
