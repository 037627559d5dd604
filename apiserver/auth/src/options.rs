//! The flags of authentication and authorization, with upstream's names, and what they build.

mod authentication;
mod authorization;
pub mod duration;
pub mod unsupported;

use std::sync::Arc;

use apiserver_storage::reader::{Observer, Reader};

use crate::authentication::Authenticator;
use crate::authentication::certificates::{CertificatesError, ClientCa, RequestClientCert};
use crate::authentication::token_file::TokenFileError;
use crate::authorization::Authorizer;
use crate::authorization::rbac::Rbac;
use crate::clock::Clock;
use crate::tokens::keys::{KeyError, PublicKey};
use crate::tokens::request::Settings;
pub use authentication::AuthenticationOptions;
pub use authorization::AuthorizationOptions;
pub use unsupported::{Flags, Unsupported};

/// Why the server cannot start with these flags.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("--{0} is not supported")]
    Unsupported(&'static str),
    #[error("--{flag}={value}: {reason}")]
    Value { flag: &'static str, value: String, reason: String },
    #[error("--{0} is required")]
    Required(&'static str),
    #[error("--{flag}")]
    Certificates {
        flag: &'static str,
        #[source]
        source: CertificatesError,
    },
    #[error("--{flag} {path}")]
    Key {
        flag: &'static str,
        path: String,
        #[source]
        source: KeyError,
    },
    #[error("--token-auth-file")]
    TokenFile(#[from] TokenFileError),
    #[error("requestheader-allowed-names, -username-headers and the like need --requestheader-client-ca-file")]
    RequestHeader,
}

/// All flags of this crate.
#[derive(clap::Args, Clone, Debug)]
pub struct AuthOptions {
    #[command(flatten)]
    pub authentication: AuthenticationOptions,
    #[command(flatten)]
    pub authorization: AuthorizationOptions,
}

/// What the authorization flags build. It comes first: the cache that the [`Reader`] stands on feeds the observers.
pub struct Authorization {
    pub authorizer: Arc<dyn Authorizer>,
    /// Known even where RBAC is not among the modes: roles are checked against escalation all the same.
    pub rbac: Arc<Rbac>,
    pub observers: Vec<Arc<dyn Observer>>,
}

/// What the authentication flags build.
pub struct Authentication {
    /// For requests; where it finds no credentials and anonymous requests are allowed, it names the anonymous user.
    pub authenticator: Arc<dyn Authenticator>,
    /// For TokenReview: bearer tokens only.
    pub tokens: Arc<dyn Authenticator>,
    /// For the TokenRequest subresource.
    pub issuing: Arc<Settings>,
    pub api_audiences: Vec<String>,
    pub issuers: Vec<String>,
    pub jwks_uri: Option<String>,
    /// The keys that tokens are checked with; published as the JWKS.
    pub keys: Vec<PublicKey>,
    /// The CA of client certificates, and that of front proxies.
    pub client_ca: Option<ClientCa>,
    pub requestheader_ca: Option<ClientCa>,
}

impl Authentication {
    /// For the server's TLS configuration.
    pub fn client_cert_verifier(&self) -> Arc<RequestClientCert> {
        Arc::new(RequestClientCert::new(self.client_ca.iter().chain(&self.requestheader_ca)))
    }

    /// The OpenID discovery document; `external_address` is `host:port` of this server.
    pub fn discovery_document(&self, external_address: &str) -> serde_json::Value {
        let default = || format!("https://{external_address}{}", crate::tokens::discovery::JWKS_PATH);
        let uri = self.jwks_uri.clone().unwrap_or_else(default);
        crate::tokens::discovery::document(&self.issuing.issuer.name, &uri, &self.keys)
    }
}

/// Both halves; for callers whose reader is there already.
pub struct Auth {
    pub authentication: Authentication,
    pub authorization: Authorization,
}

impl AuthOptions {
    pub fn build(&self, reader: Arc<dyn Reader>, clock: Clock) -> Result<Auth, OptionsError> {
        let authorization = self.authorization.build()?;
        Ok(Auth { authentication: self.authentication.build(reader, clock)?, authorization })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        auth: AuthOptions,
    }

    fn parse(flags: &[&str]) -> AuthOptions {
        Command::try_parse_from(std::iter::once("x").chain(flags.iter().copied())).expect("flags").auth
    }

    #[test]
    fn a_flag_that_is_not_supported_is_refused_by_name() {
        let options = parse(&["--oidc-issuer-url=https://a", "--authorization-config", "file"]);
        let error = options.authentication.validate().expect_err("refused");
        assert_eq!(error.to_string(), "--oidc-issuer-url is not supported");
        let error = options.authorization.build().map(|_| ()).expect_err("refused");
        assert_eq!(error.to_string(), "--authorization-config is not supported");
        let webhook = parse(&["--authorization-mode=Node,Webhook"]).authorization.build().map(|_| ());
        assert!(webhook.expect_err("refused").to_string().starts_with("--authorization-mode=Webhook:"));
    }

    #[test]
    fn booleans_and_lists_read_as_in_go() {
        assert!(parse(&[]).authentication.anonymous_auth);
        assert!(parse(&["--anonymous-auth"]).authentication.anonymous_auth);
        assert!(!parse(&["--anonymous-auth=false"]).authentication.anonymous_auth);
        let options = parse(&["--api-audiences=a,b", "--service-account-key-file=x", "--service-account-key-file=y"]);
        assert_eq!(options.authentication.api_audiences, ["a", "b"]);
        assert_eq!(options.authentication.service_account_key_file.len(), 2);
        assert_eq!(options.authorization.authorization_mode, ["Node", "RBAC"]);
    }

    #[test]
    fn what_is_required_is_asked_for() {
        let error = parse(&[]).authentication.validate().expect_err("incomplete");
        assert_eq!(error.to_string(), "--service-account-issuer is required");
        let error = parse(&["--service-account-issuer=https://x"]).authentication.validate().expect_err("incomplete");
        assert_eq!(error.to_string(), "--service-account-signing-key-file is required");
    }
}
