//! What the Endpoints of a service should say: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::pods;
use crate::service_pods::{self, Port, is_headless, publishes_not_ready};

/// Tells our Endpoints from those that people make.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Set when there are more addresses than are shown.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in one object; there are slices for the rest.
const CAPACITY: usize = 1000;

/// The Endpoints as they should be, or `None` if they are so already.
pub fn plan(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, truncated) = subsets(service, pods);
    let mut labels = service_pods::labels_without(service, &[HEADLESS, MANAGED_BY]);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    wanted.metadata.labels = Some(labels);
    if truncated {
        wanted.annotations_mut().insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut wanted.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    (existing != Some(&wanted)).then_some(wanted)
}

/// Subsets by ports; says whether addresses were left out, those that are not ready first.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let is_ipv6 = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.as_ref())
        .and_then(|all| all.first())
        .is_some_and(|first| first == "IPv6");
    let publishes = publishes_not_ready(service);
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let mut ready_first: Vec<(bool, &Arc<Pod>)> =
        pods.iter().map(|pod| (publishes || pods::is_ready(pod), pod)).collect();
    ready_first.sort_by_key(|(is_ready, _)| !is_ready);
    let mut count = 0;
    let mut truncated = false;
    for (is_ready, pod) in ready_first {
        let gone = pods::is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && !publishes);
        let ports = service_pods::ports(service, pod);
        let Some(ip) =
            service_pods::address(pod, is_ipv6).filter(|_| !gone && (!ports.is_empty() || is_headless(service)))
        else {
            continue;
        };
        if count == CAPACITY {
            truncated = true;
            break;
        }
        count += 1;
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: service_pods::hostname(service, pod),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(service_pods::target_ref(pod)),
        };
        let (ready, not_ready) = groups.entry(ports).or_default();
        if is_ready { ready.push(address) } else { not_ready.push(address) }
    }
    (groups.into_iter().map(|(ports, addresses)| subset(ports, addresses)).collect(), truncated)
}

fn subset(ports: Vec<Port>, (ready, not_ready): (Vec<EndpointAddress>, Vec<EndpointAddress>)) -> EndpointSubset {
    let sorted = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let ports = ports.into_iter().map(|port| EndpointPort {
        name: (!port.name.is_empty()).then_some(port.name),
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    });
    let ports: Vec<EndpointPort> = ports.collect();
    EndpointSubset {
        addresses: sorted(ready),
        not_ready_addresses: sorted(not_ready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_pods::testing::{backend, service};

    #[test]
    fn ready_and_unready_addresses_stand_apart_and_settle() {
        let pods = [
            Arc::new(backend("b", "10.0.0.2", true)),
            Arc::new(backend("a", "10.0.0.1", true)),
            Arc::new(backend("c", "10.0.0.3", false)),
        ];
        let made = plan(&service(), &pods, None).unwrap();
        let subset = &made.subsets.as_ref().unwrap()[0];
        let ips = |all: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            all.iter().flatten().map(|one| one.ip.clone()).collect()
        };
        assert_eq!(ips(&subset.addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&subset.not_ready_addresses), ["10.0.0.3"]);
        assert_eq!(subset.ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(plan(&service(), &pods, Some(&made)), None);
        let none = plan(&service(), &[], Some(&made)).unwrap();
        assert_eq!(none.subsets, None);
    }

    #[test]
    fn more_than_the_capacity_is_cut_and_marked() {
        let pods: Vec<_> = (0..1001)
            .map(|n| Arc::new(backend(&format!("p{n}"), &format!("10.1.{}.{}", n / 250, n % 250), true)))
            .collect();
        let made = plan(&service(), &pods, None).unwrap();
        assert_eq!(made.subsets.as_ref().unwrap()[0].addresses.as_ref().unwrap().len(), CAPACITY);
        assert_eq!(made.annotations()[OVER_CAPACITY], "truncated");
    }
}
