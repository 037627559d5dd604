//! Connections to webhooks: where a URL or a Service leads is asked each time that one is made.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use super::{Address, Resolver};

/// Why there is no connection, as Go's network library says it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(String);

/// Makes connections for one webhook.
#[derive(Clone)]
pub(super) struct Dial {
    /// Namespace, name and port.
    service: Option<(String, String, u16)>,
    resolver: Arc<dyn Resolver>,
}

impl Dial {
    pub(super) fn new(address: &Address, resolver: Arc<dyn Resolver>) -> Self {
        let service = match address {
            Address::Url(_) => None,
            Address::Service { namespace, name, port, .. } => Some((namespace.clone(), name.clone(), *port)),
        };
        Dial { service, resolver }
    }

    fn destination(&self, uri: &Uri) -> Result<(String, u16), String> {
        match &self.service {
            Some((namespace, name, port)) => self.resolver.resolve(namespace, name, *port),
            None => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
            }
        }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let destination = self.destination(&uri);
        Box::pin(async move {
            let (host, port) = destination.map_err(DialError)?;
            let stream = connect(&host, port).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = addresses.map(Iterator::collect).unwrap_or_default();
    let Some(first) = addresses.first() else {
        return Err(DialError(format!("dial tcp: lookup {host}: no such host")));
    };
    let said = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError(format!("dial tcp {first}: connect: connection refused")),
        _ => DialError(format!("dial tcp {first}: {error}")),
    };
    TcpStream::connect(addresses.as_slice()).await.map_err(said)
}
