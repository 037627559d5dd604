//! What endpoints and endpoint slices share: which pods answer for a service, and at which ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use component_base::informer::{Change, Key, Store};
use component_base::queue::WorkQueue;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;

use crate::pods;

/// A port that pods answer at, for a service's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The service port's name, or empty.
    pub name: String,
    /// The number at the pod.
    pub number: i32,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// Which protocol the application speaks.
    pub app_protocol: Option<String>,
}

/// Whether pods are found by the service's selector (and not given by hand or by name).
pub fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    })
}

/// Whether it has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods that are not ready are shown as ready.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let (Some(spec), Some(labels)) = (&service.spec, &pod.metadata.labels) else { return false };
    has_selector(service) && spec.selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

/// The pods that a service selects.
pub fn selected(service: &Service, pods: &Store<Pod>) -> Vec<Arc<Pod>> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    pods.list_namespace(namespace).into_iter().filter(|pod| selects(service, pod)).collect()
}

/// A pod's addresses.
pub fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    if all.is_empty() { status.pod_ip.iter().filter_map(|ip| ip.parse().ok()).collect() } else { all }
}

/// A pod's first address of a family.
pub fn address(pod: &Pod, is_ipv6: bool) -> Option<IpAddr> {
    addresses(pod).into_iter().find(|ip| ip.is_ipv6() == is_ipv6)
}

/// The ports at which a pod answers for a service. A named port that the pod does not have is left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let wanted = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports: Vec<Port> = wanted
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                number: target(port, pod)?,
                protocol: protocol(port).to_owned(),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|init| init.restart_policy.as_deref() == Some("Always"));
            let found =
                spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten()).find(
                    |own| own.name.as_ref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == protocol(port),
                );
            found.map(|own| own.container_port)
        }
    }
}

/// The host name under which DNS shows a pod of a headless service.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace)
        .then(|| hostname.clone())
}

/// A reference to a pod, as endpoints have it.
pub fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// What of a pod endpoints depend on.
fn shown(pod: &Pod) -> impl PartialEq {
    let spec = pod.spec.as_ref();
    (
        pod.metadata.labels.clone(),
        pod.metadata.deletion_timestamp.is_some(),
        pods::is_terminal(pod),
        pods::is_ready(pod),
        addresses(pod),
        spec.and_then(|spec| spec.node_name.clone()),
        spec.and_then(|spec| spec.hostname.clone()),
        spec.and_then(|spec| spec.subdomain.clone()),
    )
}

/// Puts the services on a queue that a pod's change concerns, after a period in which more changes may come.
pub fn enqueue_services(change: &Change<Pod>, services: &Store<Service>, queue: &WorkQueue<Key>, period: Duration) {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && shown(old) == shown(new)
    {
        return;
    }
    let namespace = change.object().metadata.namespace.as_deref().unwrap_or_default();
    for service in services.list_namespace(namespace) {
        if [&change.old, &change.new].into_iter().flatten().any(|pod| selects(&service, pod)) {
            queue.add_after(Key::of(service.as_ref()), period);
        }
    }
}

/// The labels of a service, without those in `except`.
pub fn labels_without(service: &Service, except: &[&str]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| !except.contains(&key.as_str()));
    labels
}

#[cfg(test)]
pub(crate) mod testing {
    use k8s_openapi::api::core::v1::{Container, ContainerPort, PodIP, ServiceSpec};
    use kube::api::ObjectMeta;

    use super::*;

    /// The service `web` of pods labelled `app=web`, at port 80 with a named target.
    pub fn service() -> Service {
        let port = ServicePort {
            name: Some("http".into()),
            port: 80,
            target_port: Some(IntOrString::String("web".into())),
            ..ServicePort::default()
        };
        Service {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("default".into()),
                uid: Some("svc".into()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                selector: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
                ports: Some(vec![port]),
                ip_families: Some(vec!["IPv4".into()]),
                cluster_ip: Some("10.96.0.5".into()),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    /// A pod of that service with an address, at port 8080.
    pub fn backend(name: &str, ip: &str, is_ready: bool) -> Pod {
        let mut pod = crate::pods::testing::pod(name, "n1", is_ready.then_some(1));
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        let port = ContainerPort { name: Some("web".into()), container_port: 8080, ..ContainerPort::default() };
        pod.spec.as_mut().unwrap().containers = vec![Container { ports: Some(vec![port]), ..Container::default() }];
        pod.status.as_mut().unwrap().pod_ips = Some(vec![PodIP { ip: ip.into() }]);
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{backend, service};
    use super::*;

    #[test]
    fn ports_are_found_by_number_or_name() {
        let (mut svc, pod) = (service(), backend("a", "10.0.0.1", true));
        assert_eq!(ports(&svc, &pod)[0].number, 8080);
        let port = &mut svc.spec.as_mut().unwrap().ports.as_mut().unwrap()[0];
        port.target_port = Some(IntOrString::Int(9));
        assert_eq!(ports(&svc, &pod)[0].number, 9);
        svc.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].target_port = Some(IntOrString::String("none".into()));
        assert!(ports(&svc, &pod).is_empty());
    }

    #[test]
    fn a_pod_change_concerns_the_services_that_select_it_before_or_after() {
        let services = Store::from_objects([service()]);
        let pod = |label: &str, ready| {
            let mut pod = backend("a", "10.0.0.1", ready);
            pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), label.to_owned())]));
            Some(Arc::new(pod))
        };
        for (old, new, expected) in [
            (None, pod("web", true), 1),
            (pod("web", true), pod("web", true), 0),
            (pod("web", true), pod("web", false), 1),
            (pod("web", true), pod("db", true), 1),
            (pod("db", true), None, 0),
        ] {
            let queue = WorkQueue::new();
            enqueue_services(&Change { old, new }, &services, &queue, Duration::ZERO);
            assert_eq!(queue.len(), expected);
        }
    }
}
