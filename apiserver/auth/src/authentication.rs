//! Who is asking: authenticators look at a request's credentials and name the user, or say that they see none of theirs.
//!
//! Kubernetes documentation, "Authenticating".

pub mod anonymous;
pub mod bearer;
pub mod bootstrap_token;
pub mod certificates;
pub mod groups;
pub mod request_header;
pub mod service_account;
pub mod token_cache;
pub mod token_file;
pub mod union;
pub mod x509;

use async_trait::async_trait;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::UserInfo;

/// What a request brings to prove who sends it.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    pub headers: &'a HeaderMap,
    /// The certificates that the client showed in the TLS handshake, its own first; the handshake has proved that it
    /// holds the first one's key, nothing more.
    pub peer: &'a [CertificateDer<'static>],
    /// The audiences that a token must be meant for, one of them; empty means the API server's own.
    pub audiences: &'a [String],
}

/// A user whose credentials hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authenticated {
    pub user: UserInfo,
    /// Those of the audiences asked for that the credentials are valid for; empty where credentials have no audience.
    pub audiences: Vec<String>,
}

impl Authenticated {
    pub fn user(user: UserInfo) -> Self {
        Authenticated { user, audiences: Vec::new() }
    }
}

/// Credentials were there, but do not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("invalid bearer token")]
    InvalidToken,
    /// A token of a kind that we know, with what is wrong with it.
    #[error("invalid bearer token, {0}")]
    Token(String),
    #[error("verifying the client certificate failed: {0}")]
    Certificate(String),
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<AuthError>),
    #[error("{0}")]
    Internal(String),
}

/// Looks for credentials of one sort in a request.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The user; none if the request has no credentials of this sort; an error if it has and they do not hold.
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError>;
}

/// Understands bearer tokens of one sort.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync {
    /// The user; none if the token is not of this sort. `audiences` is never empty.
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, AuthError>;
}
