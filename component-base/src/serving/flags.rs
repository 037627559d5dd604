//! The flags of a component that say where and how it serves health and metrics, and the server that they describe.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use kube::Client;

use super::delegated::Delegated;
use super::{BindError, Routes, bind, serve};
use crate::shutdown::Shutdown;
use crate::{client, tls, version};

/// Flatten it into a component's options; `PORT` is its own default port.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "serving")]
pub struct Flags<const PORT: u16> {
    /// The address to serve on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port to serve HTTPS on; 0 serves nothing
    #[arg(long, default_value = PORT.to_string())]
    pub secure_port: u16,
    /// File with the serving certificate; without it a self-signed one is made
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the key of --tls-cert-file
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Clients may present certificates that these authorities signed
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Kubeconfig for token reviews; the main one when not given
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig for access reviews; the main one when not given
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Paths that everybody may get
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, or not ours to take.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Certificates cannot be used.
    #[error("serving certificates")]
    Tls(#[from] tls::Error),
    /// There is no way to ask the API server who may look.
    #[error("no client for reviews")]
    Client(#[from] client::Error),
}

impl<const PORT: u16> Flags<PORT> {
    /// Serves these routes until shutdown: health for everybody, the rest for those whom the API server allows it. `process` asks it where no
    /// kubeconfig is given for that. Does nothing when the port is 0.
    ///
    /// # Errors
    /// When certificates cannot be used, or the port is taken.
    pub async fn serve(
        &self,
        component: &str,
        process: &Client,
        routes: Routes,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        if self.secure_port == 0 {
            return Ok(());
        }
        let source = tls::ServingCertificate::from_flags(
            self.tls_cert_file.as_deref(),
            self.tls_private_key_file.as_deref(),
            &["localhost", "127.0.0.1", "::1"],
        );
        let server = tls::Server::new(source, self.client_ca_file.as_deref(), shutdown.clone())?;
        let authentication = reviewer(self.authentication_kubeconfig.as_deref(), component, process).await?;
        let authorization = match self.authorization_kubeconfig == self.authentication_kubeconfig {
            true => authentication.clone(),
            false => reviewer(self.authorization_kubeconfig.as_deref(), component, process).await?,
        };
        let delegated = Delegated::new(authentication, authorization);
        let open: Vec<&str> = self.authorization_always_allow_paths.iter().map(String::as_str).collect();
        let handler = routes.with_guard(delegated.guard(), &open).into_handler();
        let address = SocketAddr::new(self.bind_address, self.secure_port);
        let listener = bind(address).await?;
        tokio::spawn(serve(listener, Some(server), handler, shutdown.clone()));
        Ok(())
    }
}

async fn reviewer(path: Option<&Path>, component: &str, process: &Client) -> Result<Client, client::Error> {
    match path {
        Some(path) => client::from_kubeconfig(path, &version::user_agent(component)).await,
        None => Ok(process.clone()),
    }
}
