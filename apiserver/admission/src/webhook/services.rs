//! From a Service to where its packets go: its cluster IP, as the nodes' proxies take it.

use std::net::IpAddr;
use std::sync::Arc;

use apiserver_storage::reader::{GroupResource, Reader};
use component_base::webhook::Resolver;
use serde_json::Value;

use crate::object::{items, text};

const SERVICES: GroupResource<'static> = GroupResource::new("", "services");

/// The Services of the cluster.
pub struct Services(pub Arc<dyn Reader>);

impl Resolver for Services {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
        let service = self.0.get(SERVICES, namespace, name).ok_or_else(|| format!("service {name:?} not found"))?;
        destination(&service, port)
    }
}

fn destination(service: &Value, port: u16) -> Result<(String, u16), String> {
    let name = text(service, "/metadata/name");
    match text(service, "/spec/type") {
        "ExternalName" => return Ok((text(service, "/spec/externalName").to_owned(), port)),
        "ClusterIP" | "NodePort" | "LoadBalancer" | "" => {}
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let address = text(service, "/spec/clusterIP");
    if address.parse::<IpAddr>().is_err() {
        return Err(format!("cannot route to service with ClusterIP {address:?}"));
    }
    if !items(service, "/spec/ports").iter().any(|known| known["port"] == port) {
        return Err(format!("no service port {port} found for service {name:?}"));
    }
    Ok((address.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_leads_to_its_cluster_address_or_its_external_name() {
        let service = |spec: Value| json!({"metadata": {"name": "s"}, "spec": spec});
        let ports = json!([{"port": 443}]);
        for (spec, port, expected) in [
            (json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports}), 443, Ok(("10.0.0.1", 443))),
            (json!({"type": "NodePort", "clusterIP": "fd00::1", "ports": ports}), 443, Ok(("fd00::1", 443))),
            (json!({"type": "ExternalName", "externalName": "example.com"}), 8443, Ok(("example.com", 8443))),
            (
                json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports}),
                80,
                Err("no service port 80 found for service \"s\""),
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "None", "ports": ports}),
                443,
                Err("cannot route to service with ClusterIP \"None\""),
            ),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port)).map_err(str::to_owned);
            assert_eq!(destination(&service(spec), port), expected);
        }
    }
}
