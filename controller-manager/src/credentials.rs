//! Clients of the controllers: each with a token of its own service account in kube-system (TokenRequest), over shared connections.

use std::time::Duration;

use component_base::client::{self, SharedToken};
use component_base::runner::chain;
use component_base::shutdown::Shutdown;
use component_base::version;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ObjectMeta, PostParams};
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use parking_lot::Mutex;

use crate::options::Options;
use crate::service::COMPONENT;

/// Where the controllers' service accounts live.
const NAMESPACE: &str = "kube-system";
/// Validity that is asked for.
const TOKEN_SECONDS: i64 = 3600;
/// Tokens are renewed when this part of their validity has passed.
const RENEW_AFTER: f64 = 0.8;
/// Wait after a failure, and the shortest time between two tokens.
const RETRY: Duration = Duration::from_secs(2);

/// Makes clients.
pub struct Clients {
    process: Client,
    /// Connections without credentials; `None` when all controllers act as the process.
    bare: Option<Client>,
    shutdown: Shutdown,
    known: Mutex<Vec<(String, Client)>>,
}

impl Clients {
    /// From the process's own configuration.
    pub fn new(
        options: &Options,
        mut config: Config,
        process: Client,
        shutdown: Shutdown,
    ) -> Result<Self, client::Error> {
        let bare = if options.use_service_account_credentials {
            config.auth_info = AuthInfo::default();
            Some(options.client.client(config, COMPONENT)?)
        } else {
            None
        };
        Ok(Self { process, bare, shutdown, known: Mutex::default() })
    }

    /// The client for a service account; see [`crate::context::Context::client`].
    pub async fn client(&self, account: &str) -> Result<Client, client::Error> {
        let Some(bare) = &self.bare else { return Ok(self.process.clone()) };
        if let Some((_, known)) = self.known.lock().iter().find(|(name, _)| name == account) {
            return Ok(known.clone());
        }
        let token = SharedToken::default();
        let agent = format!("{}/system:serviceaccount:{NAMESPACE}:{account}", version::user_agent(COMPONENT));
        let made = client::with_token(bare, token.clone(), &agent)?;
        let valid = loop {
            match renew(&self.process, account, &token).await {
                Ok(valid) => break valid,
                Err(error) => {
                    tracing::info!(account, error = chain(error.as_ref()), "no service account token yet, will retry");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let (process, owned, shutdown) = (self.process.clone(), account.to_owned(), self.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = keep_fresh(process, owned, token, valid) => {}
            }
        });
        self.known.lock().push((account.to_owned(), made.clone()));
        Ok(made)
    }
}

/// Renews the token before it ends, or when the server refuses it (the service account was made anew).
async fn keep_fresh(process: Client, account: String, token: SharedToken, mut valid: Duration) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(valid.mul_f64(RENEW_AFTER)) => {}
            () = token.refused() => tokio::time::sleep(RETRY).await,
        }
        valid = match renew(&process, &account, &token).await {
            Ok(valid) => valid,
            Err(error) => {
                tracing::warn!(account, error = chain(error.as_ref()), "token not renewed, will retry");
                RETRY
            }
        };
    }
}

/// Gets a token, making the service account if there is none; gives how long it is valid.
async fn renew(
    process: &Client,
    account: &str,
    token: &SharedToken,
) -> Result<Duration, component_base::runner::Error> {
    let api: Api<ServiceAccount> = Api::namespaced(process.clone(), NAMESPACE);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let params = PostParams::default();
    let granted = match api.create_token_request(account, &params, &request).await {
        Err(error) if client::is_not_found(&error) => {
            create_account(&api, account).await?;
            api.create_token_request(account, &params, &request).await?
        }
        outcome => outcome?,
    };
    let status = granted.status.ok_or("the token request has no status")?;
    token.set(status.token.as_deref().ok_or("the token request has no token")?)?;
    let expires = status.expiration_timestamp.ok_or("the token request has no expiration")?;
    let left = expires.0.duration_since(Timestamp::now());
    Ok(Duration::try_from(left).unwrap_or_default().max(RETRY))
}

async fn create_account(api: &Api<ServiceAccount>, name: &str) -> Result<(), kube::Error> {
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() };
    match api.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await {
        Err(error) if !client::is_already_exists(&error) => Err(error),
        _ => Ok(()),
    }
}
