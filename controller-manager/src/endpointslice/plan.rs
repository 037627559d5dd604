//! Which slices a service should have: pure. Endpoints stay in the slice where they are, so that a change of one pod writes one slice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::ownership;
use crate::pods;
use crate::service_pods::{self, Port, is_headless, publishes_not_ready};

/// Names the service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Names who keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Us.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make a slice.
    Create(Box<EndpointSlice>),
    /// Write a slice.
    Update(Box<EndpointSlice>),
    /// Delete a slice of this name.
    Delete(String),
}

/// Address family and ports: what all endpoints of a slice share.
pub type Group = (&'static str, Vec<Port>);

/// What all slices of one source have.
pub struct Frame {
    /// Their names begin with it.
    pub name: String,
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Whether, and what their annotations are to be.
    pub annotations: Option<BTreeMap<String, String>>,
    pub owner: OwnerReference,
}

/// Compares a service and its pods with its slices. `zone` gives a node's zone.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    max_endpoints: usize,
    zone: impl Fn(&str) -> Option<String>,
) -> Vec<Action> {
    let families = families(service);
    let mut wanted = wanted(service, pods, &families, zone);
    for &family in &families {
        // A service without pods still has a slice, so that consumers know that it was looked at.
        if !wanted.keys().any(|(group_family, _)| *group_family == family) {
            wanted.insert((family, Vec::new()), Vec::new());
        }
    }
    let frame = Frame {
        name: service.name_any(),
        namespace: service.namespace(),
        labels: labels(service),
        annotations: None,
        owner: ownership::owner_reference(service),
    };
    distribute(&frame, wanted, existing, max_endpoints)
}

/// Compares what endpoints there should be with the slices that are there.
pub fn distribute(
    frame: &Frame,
    wanted: BTreeMap<Group, Vec<Endpoint>>,
    existing: &[Arc<EndpointSlice>],
    max_endpoints: usize,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut left: Vec<&Arc<EndpointSlice>> =
        existing.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
    for (group, endpoints) in wanted {
        let (own, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|slice| is_of(slice, &group));
        left = rest;
        actions.extend(fill(frame, &group, endpoints, &own, max_endpoints.max(1)));
    }
    actions.extend(left.into_iter().map(|slice| Action::Delete(slice.name_any())));
    actions
}

fn families(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let known: Vec<&'static str> =
        families.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if known.is_empty() { vec!["IPv4"] } else { known }
}

fn wanted(
    service: &Service,
    pods: &[Arc<Pod>],
    families: &[&'static str],
    zone: impl Fn(&str) -> Option<String>,
) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pods::is_terminal(pod)) {
        let ports = service_pods::ports(service, pod);
        if ports.is_empty() && !is_headless(service) {
            continue;
        }
        for &family in families {
            if let Some(address) = service_pods::address(pod, family == "IPv6") {
                let endpoint = endpoint(service, pod, address.to_string(), &zone);
                groups.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    groups
}

fn endpoint(service: &Service, pod: &Pod, address: String, zone: impl Fn(&str) -> Option<String>) -> Endpoint {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    let zone = node.as_deref().and_then(zone);
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: if ready { hints(service, node.as_deref(), zone.as_deref()) } else { None },
        hostname: service_pods::hostname(service, pod),
        node_name: node,
        target_ref: Some(service_pods::target_ref(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// Who should use an endpoint, as `spec.trafficDistribution` prefers.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    match distribution {
        "PreferClose" | "PreferSameZone" => {
            for_zones.map(|zones| EndpointHints { for_zones: Some(zones), for_nodes: None })
        }
        "PreferSameNode" => {
            let for_nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
            Some(EndpointHints { for_zones, for_nodes })
        }
        _ => None,
    }
}

fn is_of(slice: &EndpointSlice, (family, ports): &Group) -> bool {
    let mut own: Vec<Port> = slice.ports.iter().flatten().map(read_port).collect();
    own.sort();
    slice.address_type == *family && own == *ports
}

fn read_port(port: &EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        number: port.port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_default(),
        app_protocol: port.app_protocol.clone(),
    }
}

fn write_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

/// What an endpoint is known by when its other fields change.
fn identity(endpoint: &Endpoint) -> (Option<String>, Vec<String>) {
    (endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()), endpoint.addresses.clone())
}

/// Distributes the endpoints of a group over its slices.
fn fill(
    frame: &Frame,
    group: &Group,
    endpoints: Vec<Endpoint>,
    own: &[&Arc<EndpointSlice>],
    max: usize,
) -> Vec<Action> {
    let mut wanted: HashMap<_, Endpoint> = HashMap::with_capacity(endpoints.len());
    let mut order = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        order.push(identity(&endpoint));
        wanted.insert(identity(&endpoint), endpoint);
    }
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::with_capacity(own.len());
    for slice in own {
        let stay: Vec<Endpoint> =
            slice.endpoints.iter().flatten().filter_map(|old| wanted.remove(&identity(old))).take(max).collect();
        kept.push((slice, stay));
    }
    let mut rest: Vec<Endpoint> = order.into_iter().filter_map(|id| wanted.remove(&id)).collect();
    // Those that are written anyway take more first, then the fullest.
    let mut by_preference: Vec<usize> = (0..kept.len()).collect();
    by_preference.sort_by_key(|&index| {
        let (slice, stay) = &kept[index];
        (slice.endpoints.as_deref().unwrap_or_default() == stay.as_slice(), std::cmp::Reverse(stay.len()))
    });
    for index in by_preference {
        let stay = &mut kept[index].1;
        let room = max.saturating_sub(stay.len()).min(rest.len());
        stay.extend(rest.drain(..room));
    }
    let is_placeholder = kept.iter().all(|(_, stay)| stay.is_empty()) && rest.is_empty();
    let mut actions = Vec::new();
    for (index, (slice, stay)) in kept.iter().enumerate() {
        if stay.is_empty() && !(is_placeholder && index == 0) {
            actions.push(Action::Delete(slice.name_any()));
        } else if let Some(changed) = changed(frame, slice, stay) {
            actions.push(Action::Update(Box::new(changed)));
        }
    }
    while !rest.is_empty() || (is_placeholder && kept.is_empty() && actions.is_empty()) {
        let some: Vec<Endpoint> = rest.drain(..max.min(rest.len())).collect();
        actions.push(Action::Create(Box::new(new_slice(frame, group, some))));
    }
    actions
}

fn changed(frame: &Frame, slice: &EndpointSlice, endpoints: &[Endpoint]) -> Option<EndpointSlice> {
    let is_annotated = frame.annotations.as_ref().is_none_or(|annotations| slice.annotations() == annotations);
    let is_same = slice.endpoints.as_deref().unwrap_or_default() == endpoints;
    if is_same && *slice.labels() == frame.labels && is_annotated {
        return None;
    }
    let mut changed = slice.clone();
    changed.endpoints = Some(endpoints.to_vec());
    changed.metadata.labels = Some(frame.labels.clone());
    if let Some(annotations) = &frame.annotations {
        changed.metadata.annotations = Some(annotations.clone());
    }
    Some(changed)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service_pods::labels_without(service, &[SERVICE_NAME, MANAGED_BY, HEADLESS]);
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn new_slice(frame: &Frame, (family, ports): &Group, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", frame.name)),
            namespace: frame.namespace.clone(),
            labels: Some(frame.labels.clone()),
            annotations: frame.annotations.clone(),
            owner_references: Some(vec![frame.owner.clone()]),
            ..ObjectMeta::default()
        },
        address_type: (*family).to_owned(),
        endpoints: Some(endpoints),
        ports: (!ports.is_empty()).then(|| ports.iter().map(write_port).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::service_pods::testing::{backend, service};

    fn backends(count: usize) -> Vec<Arc<Pod>> {
        (0..count).map(|n| Arc::new(backend(&format!("p{n:02}"), &format!("10.0.0.{}", n + 1), true))).collect()
    }

    fn run(pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
        plan(&service(), pods, existing, 4, |_| Some("z1".into()))
    }

    static NAMES: AtomicUsize = AtomicUsize::new(0);

    /// What the API server would hold after the actions.
    fn applied(existing: &[Arc<EndpointSlice>], actions: Vec<Action>) -> Vec<Arc<EndpointSlice>> {
        let mut slices: BTreeMap<String, Arc<EndpointSlice>> =
            existing.iter().map(|slice| (slice.name_any(), Arc::clone(slice))).collect();
        for action in actions {
            match action {
                Action::Create(mut slice) => {
                    let name = format!("web-{:03}", NAMES.fetch_add(1, Ordering::Relaxed));
                    slice.metadata.name = Some(name.clone());
                    slices.insert(name, Arc::from(slice));
                }
                Action::Update(slice) => {
                    slices.insert(slice.name_any(), Arc::from(slice));
                }
                Action::Delete(name) => {
                    slices.remove(&name);
                }
            }
        }
        slices.into_values().collect()
    }

    fn total(slices: &[Arc<EndpointSlice>]) -> usize {
        slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).sum()
    }

    #[test]
    fn endpoints_say_what_the_pod_is() {
        let mut pods = backends(1);
        Arc::get_mut(&mut pods[0]).unwrap().metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let [Action::Create(slice)] = &run(&pods, &[])[..] else { panic!() };
        let endpoint = &slice.endpoints.as_ref().unwrap()[0];
        let conditions = endpoint.conditions.as_ref().unwrap();
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
        assert_eq!((endpoint.zone.as_deref(), endpoint.node_name.as_deref()), (Some("z1"), Some("n1")));
        let port = &slice.ports.as_ref().unwrap()[0];
        assert_eq!(
            (port.name.as_deref(), port.port, port.protocol.as_deref()),
            (Some("http"), Some(8080), Some("TCP"))
        );
        assert_eq!(slice.labels()[SERVICE_NAME], "web");
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    }

    #[test]
    fn slices_are_filled_stable_and_settle() {
        let mut pods = backends(10);
        let slices = applied(&[], run(&pods, &[]));
        assert_eq!((slices.len(), total(&slices)), (3, 10));
        assert!(run(&pods, &slices).is_empty());
        pods[0] = Arc::new(backend("p00", "10.0.0.1", false));
        let change = run(&pods, &slices);
        assert!(matches!(&change[..], [Action::Update(_)]), "one pod, one slice: {change:?}");
        let slices = applied(&slices, change);
        pods.truncate(1);
        let slices = applied(&slices, run(&pods, &slices));
        assert_eq!((slices.len(), total(&slices)), (1, 1));
        assert!(run(&pods, &slices).is_empty());
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice() {
        let slices = applied(&[], run(&[], &[]));
        assert_eq!((slices.len(), total(&slices)), (1, 0));
        assert!(slices[0].ports.is_none());
        assert!(run(&[], &slices).is_empty());
        let pods = backends(1);
        let slices = applied(&slices, run(&pods, &slices));
        assert_eq!((slices.len(), total(&slices)), (1, 1));
        let slices = applied(&slices, run(&[], &slices));
        assert_eq!((slices.len(), total(&slices)), (1, 0));
    }

    #[test]
    fn terminal_pods_and_other_families_are_left_out() {
        let mut over = backend("over", "10.0.0.1", true);
        over.status.as_mut().unwrap().phase = Some("Failed".into());
        let pods = [Arc::new(over), Arc::new(backend("six", "fd00::1", true))];
        assert_eq!(total(&applied(&[], run(&pods, &[]))), 0);
    }
}
