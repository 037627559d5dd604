//! The flags of authentication.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver_storage::reader::Reader;

use super::unsupported::{Flags, Unsupported};
use super::{Authentication, OptionsError, duration};
use crate::authentication::anonymous::Anonymous;
use crate::authentication::bearer::Bearer;
use crate::authentication::bootstrap_token::BootstrapToken;
use crate::authentication::certificates::ClientCa;
use crate::authentication::groups::AuthenticatedGroup;
use crate::authentication::request_header::{Headers, RequestHeader};
use crate::authentication::service_account::ServiceAccount;
use crate::authentication::token_file::TokenFile;
use crate::authentication::union::{Fallback, Union};
use crate::authentication::x509::X509;
use crate::authentication::{Authenticator, TokenAuthenticator};
use crate::clock::Clock;
use crate::tokens::Issuer;
use crate::tokens::keys::{KeyError, PrivateKey, PublicKey};
use crate::tokens::request::Settings;

/// Flags of upstream's that are not supported.
#[derive(Debug)]
pub struct NotYet;

impl Flags for NotYet {
    const NAMES: &'static [&'static str] = &[
        "authentication-config",
        "authentication-token-webhook-cache-ttl",
        "authentication-token-webhook-config-file",
        "authentication-token-webhook-version",
        "oidc-ca-file",
        "oidc-client-id",
        "oidc-groups-claim",
        "oidc-groups-prefix",
        "oidc-issuer-url",
        "oidc-required-claim",
        "oidc-signing-algs",
        "oidc-username-claim",
        "oidc-username-prefix",
        "service-account-signing-endpoint",
    ];
}

#[derive(clap::Args, Clone, Debug)]
pub struct AuthenticationOptions {
    /// Allow requests without credentials, as system:anonymous; what they may do is for authorization to say.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub anonymous_auth: bool,

    /// Audiences of this server: a token must be meant for one of them. Default: the issuers.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,

    /// CA bundle (PEM) that client certificates are checked against.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,

    /// Accept bootstrap tokens: Secrets of type bootstrap.kubernetes.io/token in kube-system.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub enable_bootstrap_token_auth: bool,

    /// Common names of front proxies; any name if empty.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,

    /// CA bundle (PEM) that front proxies' certificates are checked against.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,

    /// Prefixes of the headers with a user's extra fields.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,

    /// Headers with a user's groups.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,

    /// Headers with a user's uid.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,

    /// Headers with a user's name.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,

    /// Let tokens of projected volumes hold for a year, with a warning after an hour.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub service_account_extend_token_expiration: bool,

    /// Issuer of service account tokens. Tokens are issued in the name of the first, and accepted of all.
    #[arg(long)]
    pub service_account_issuer: Vec<String>,

    /// URI of the key set, where it is not this server's own.
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,

    /// File with keys (PEM) that service account tokens are checked with. Default: the signing key.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,

    /// Look the account and the Secret of older service account tokens up.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub service_account_lookup: bool,

    /// Longest life of a token; longer requests are shortened. 0 for no limit.
    #[arg(long, value_parser = duration::parse, default_value = "0")]
    pub service_account_max_token_expiration: Duration,

    /// File with the private key (PEM) that service account tokens are signed with.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,

    /// File with static tokens: lines of token,user,uid,"group1,group2".
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,

    #[command(flatten)]
    pub unsupported: Unsupported<NotYet>,
}

impl AuthenticationOptions {
    /// Whether the flags go together, as far as that can be said without reading files.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if let Some(flag) = self.unsupported.given.first() {
            return Err(OptionsError::Unsupported(flag));
        }
        let issuer = self.service_account_issuer.first().ok_or(OptionsError::Required("service-account-issuer"))?;
        if issuer.is_empty() || (issuer.contains(':') && !issuer.contains("://")) {
            let reason = "an issuer with a colon must be a URL".to_owned();
            return Err(OptionsError::Value { flag: "service-account-issuer", value: issuer.clone(), reason });
        }
        if self.service_account_signing_key_file.is_none() {
            return Err(OptionsError::Required("service-account-signing-key-file"));
        }
        let max = self.service_account_max_token_expiration;
        if !max.is_zero() && !(3600..=1 << 32).contains(&max.as_secs()) {
            let reason = "must be at least 1h and at most 2^32 seconds".to_owned();
            let value = format!("{max:?}");
            return Err(OptionsError::Value { flag: "service-account-max-token-expiration", value, reason });
        }
        if self.requestheader_client_ca_file.is_none() && !self.requestheader_allowed_names.is_empty() {
            return Err(OptionsError::RequestHeader);
        }
        Ok(())
    }

    fn api_audiences(&self) -> Vec<String> {
        if self.api_audiences.is_empty() { self.service_account_issuer.clone() } else { self.api_audiences.clone() }
    }

    /// Reads the files, and puts the authenticators together.
    pub fn build(&self, reader: Arc<dyn Reader>, clock: Clock) -> Result<Authentication, OptionsError> {
        self.validate()?;
        let client_ca = certificates("client-ca-file", self.client_ca_file.as_ref())?;
        let requestheader_ca =
            certificates("requestheader-client-ca-file", self.requestheader_client_ca_file.as_ref())?;
        let issuing = self.issuing()?;
        let keys = self.keys(&issuing)?;
        let tokens = self.token_authenticators(&keys, reader, &clock)?;
        let bearer: Arc<dyn Authenticator> =
            Arc::new(AuthenticatedGroup(Bearer::new(tokens, issuing.api_audiences.clone())));
        let mut all: Vec<Arc<dyn Authenticator>> = Vec::new();
        if let Some(ca) = &requestheader_ca {
            all.push(Arc::new(RequestHeader::new(ca.clone(), self.headers(), clock.clone())));
        }
        if let Some(ca) = &client_ca {
            all.push(Arc::new(X509::new(ca.clone(), clock)));
        }
        all.push(Arc::clone(&bearer));
        let mut authenticator: Arc<dyn Authenticator> = Arc::new(AuthenticatedGroup(Union(all)));
        if self.anonymous_auth {
            authenticator = Arc::new(Fallback { first: authenticator, second: Arc::new(Anonymous) });
        }
        Ok(Authentication {
            authenticator,
            tokens: bearer,
            api_audiences: issuing.api_audiences.clone(),
            issuing: Arc::new(issuing),
            issuers: self.service_account_issuer.clone(),
            jwks_uri: self.service_account_jwks_uri.clone(),
            keys,
            client_ca,
            requestheader_ca,
        })
    }

    fn issuing(&self) -> Result<Settings, OptionsError> {
        let flag = "service-account-signing-key-file";
        let path = self.service_account_signing_key_file.as_ref().ok_or(OptionsError::Required(flag))?;
        let failed = |source: KeyError| OptionsError::Key { flag, path: path.display().to_string(), source };
        let key = PrivateKey::from_file(path).map_err(failed)?;
        let issuer = self.service_account_issuer.first().ok_or(OptionsError::Required("service-account-issuer"))?;
        let max = self.service_account_max_token_expiration.as_secs();
        Ok(Settings {
            issuer: Issuer::new(issuer, key),
            api_audiences: self.api_audiences(),
            max_seconds: i64::try_from(max).ok().filter(|max| *max > 0),
            extend: self.service_account_extend_token_expiration,
        })
    }

    fn keys(&self, issuing: &Settings) -> Result<Vec<PublicKey>, OptionsError> {
        if self.service_account_key_file.is_empty() {
            return Ok(vec![issuing.issuer.public_key().clone()]);
        }
        let mut keys: Vec<PublicKey> = Vec::new();
        for path in &self.service_account_key_file {
            let failed = |source| OptionsError::Key {
                flag: "service-account-key-file",
                path: path.display().to_string(),
                source,
            };
            for key in PublicKey::all_from_file(path).map_err(failed)? {
                if !keys.iter().any(|other| other.id == key.id) {
                    keys.push(key);
                }
            }
        }
        Ok(keys)
    }

    fn token_authenticators(
        &self,
        keys: &[PublicKey],
        reader: Arc<dyn Reader>,
        clock: &Clock,
    ) -> Result<Vec<Arc<dyn TokenAuthenticator>>, OptionsError> {
        let mut all: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
        if let Some(path) = &self.token_auth_file {
            all.push(Arc::new(TokenFile::from_file(path)?));
        }
        all.push(Arc::new(ServiceAccount::new(
            self.service_account_issuer.clone(),
            keys.to_vec(),
            self.api_audiences(),
            self.service_account_lookup,
            Arc::clone(&reader),
            clock.clone(),
        )));
        if self.enable_bootstrap_token_auth {
            all.push(Arc::new(BootstrapToken::new(reader, clock.clone())));
        }
        Ok(all)
    }

    fn headers(&self) -> Headers {
        Headers {
            allowed_names: self.requestheader_allowed_names.clone(),
            username: self.requestheader_username_headers.clone(),
            uid: self.requestheader_uid_headers.clone(),
            group: self.requestheader_group_headers.clone(),
            extra_prefix: self.requestheader_extra_headers_prefix.clone(),
        }
    }
}

fn certificates(flag: &'static str, path: Option<&PathBuf>) -> Result<Option<ClientCa>, OptionsError> {
    let read = |path: &PathBuf| ClientCa::from_file(path).map_err(|source| OptionsError::Certificates { flag, source });
    path.map(read).transpose()
}
