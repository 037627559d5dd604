//! The connection to the kubelets: for logs, exec, attach, port-forward and the node proxy.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use apiserver_storage::Store;
use apiserver_storage::reader::{GroupResource, Reader};
use component_base::sockets;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long connecting to a node may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KUBELET_PORT: u16 = 10250;

/// Opens connections to kubelets.
pub struct KubeletClient {
    pub store: Store,
    pub tls: Arc<ClientConfig>,
    /// `--kubelet-preferred-address-types`.
    pub address_types: Vec<String>,
}

/// Where a kubelet listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// The kubelet's endpoint of a node: its first address by preference.
pub fn endpoint(node: &Value, preference: &[String]) -> Option<Endpoint> {
    let addresses = node["status"]["addresses"].as_array()?;
    let by_type = |kind: &String| addresses.iter().find(|address| address["type"] == kind.as_str());
    let host = preference.iter().find_map(by_type)?["address"].as_str()?.to_owned();
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().filter(|port| *port > 0);
    Some(Endpoint { host, port: port.map_or(KUBELET_PORT, |port| port as u16) })
}

impl KubeletClient {
    /// The kubelet of a node.
    ///
    /// # Errors
    /// `NotFound` without the node; `InternalError` when it has no address.
    pub fn endpoint_of(&self, node: &str) -> Result<Endpoint, ApiError> {
        let found = self.store.get(GroupResource::new("", "nodes"), "", node);
        let found = found.ok_or_else(|| ApiError::not_found("", "nodes", node))?;
        endpoint(&found, &self.address_types)
            .ok_or_else(|| ApiError::internal(format!("no preferred addresses found on node {node:?}")))
    }

    /// Connects with the server's client certificate.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<TokioIo<TlsStream<TcpStream>>, ApiError> {
        let Endpoint { host, port } = endpoint;
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::internal(format!("error dialing backend: {host}:{port}: {error}"))
        };
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(&error))?;
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            sockets::tune(&stream)?;
            TlsConnector::from(self.tls.clone()).connect(name, stream).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"timed out")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_preferred_address_and_the_reported_port_are_used() {
        let node = json!({"status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}}});
        let preference = ["InternalIP".to_owned(), "Hostname".to_owned()];
        assert_eq!(endpoint(&node, &preference), Some(Endpoint { host: "10.0.0.1".into(), port: 10251 }));
        assert_eq!(endpoint(&json!({"status": {}}), &preference), None);
    }
}
