//! What objects use of the resources that quotas limit: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::quantity::{Format, Quantity};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodSpec, ResourceQuota, ResourceRequirements, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::scopes;
use crate::pods;

/// Amounts by the names that quotas use.
pub type Amounts = BTreeMap<String, Quantity>;

/// The objects of a namespace.
pub struct Objects<'a> {
    pub pods: &'a [Arc<Pod>],
    pub services: &'a [Arc<Service>],
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// The number of objects of a resource (`configmaps`, `deployments.apps`); `None` if it is not known (yet).
    pub count: &'a dyn Fn(&str) -> Option<usize>,
}

/// The resource whose objects a limit counts, if it counts objects.
pub fn counted(limit: &str) -> Option<&str> {
    match limit {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => Some(limit),
        _ => limit.strip_prefix("count/"),
    }
}

/// How much is used of what a quota limits; without what cannot be known yet.
pub fn usage(quota: &ResourceQuota, objects: &Objects<'_>, now: Timestamp) -> Amounts {
    let spec = quota.spec.clone().unwrap_or_default();
    let names: Vec<&String> = spec.hard.iter().flatten().map(|(name, _)| name).collect();
    let is_scoped = scopes::is_scoped(&spec);
    let mut all = Amounts::new();
    for pod in objects.pods.iter().filter(|pod| scopes::selects(&spec, pod) && is_charged(pod, now)) {
        add(&mut all, of_pod(pod));
    }
    if !is_scoped {
        objects.services.iter().for_each(|service| add(&mut all, of_service(service)));
        objects.claims.iter().for_each(|claim| add(&mut all, of_claim(claim)));
    }
    let amount = |name: &String| match counted(name) {
        Some(_) if is_scoped => None,
        Some(resource) => (objects.count)(resource).map(number),
        None => Some(all.get(name).copied().unwrap_or_else(|| number(0))),
    };
    names.into_iter().filter_map(|name| Some((name.clone(), amount(name)?))).collect()
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn add(all: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let total = match all.get(&name) {
            Some(known) => *known + amount,
            None => amount,
        };
        all.insert(name, total);
    }
}

/// Whether a pod still uses what it asked for.
fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let is_overdue = pod
        .metadata
        .deletion_timestamp
        .as_ref()
        .is_some_and(|time| time.0.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| end < now));
    !pods::is_terminal(pod) && !is_overdue
}

fn of_pod(pod: &Pod) -> Amounts {
    let mut amounts = Amounts::from([("pods".to_owned(), number(1))]);
    let Some(spec) = &pod.spec else { return amounts };
    for (name, amount) in totals(spec, |resources| resources.requests.as_ref(), true) {
        if is_native(&name) {
            amounts.insert(name.clone(), amount);
        }
        amounts.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in totals(spec, |resources| resources.limits.as_ref(), false) {
        if is_native(&name) {
            amounts.insert(format!("limits.{name}"), amount);
        }
    }
    amounts
}

fn is_native(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

type List<'a> = Option<&'a BTreeMap<String, ApiQuantity>>;

fn read(list: List<'_>) -> Amounts {
    let parsed = |(name, amount): (&String, &ApiQuantity)| Some((name.clone(), amount.0.parse().ok()?));
    list.into_iter().flatten().filter_map(parsed).collect()
}

fn raise(all: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if all.get(name).is_none_or(|known| known < amount) {
            all.insert(name.clone(), *amount);
        }
    }
}

/// What a pod asks for in all: its containers with its sidecars, or the largest moment of its initialization; what is asked for the whole pod counts
/// first. `always_overhead`: whether overhead counts even where nothing is asked for.
fn totals<'a>(
    spec: &'a PodSpec,
    list: impl Fn(&'a ResourceRequirements) -> List<'a>,
    always_overhead: bool,
) -> Amounts {
    let of = |container: &'a Container| read(container.resources.as_ref().and_then(&list));
    let mut running = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut running, of(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        let mut moment = sidecars.clone();
        add(&mut moment, own.clone());
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, own);
            sidecars.clone_from(&moment);
        }
        raise(&mut peak, &moment);
    }
    raise(&mut running, &peak);
    running.extend(read(spec.resources.as_ref().and_then(&list)));
    let overhead = read(spec.overhead.as_ref());
    let counts = |name: &String| always_overhead || running.contains_key(name);
    let overhead: Amounts = overhead.into_iter().filter(|(name, _)| counts(name)).collect();
    add(&mut running, overhead);
    running
}

fn of_service(service: &Service) -> Amounts {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
    let has_node_ports = match type_ {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    };
    let node_ports = match has_node_ports {
        true => ports.len(),
        false => ports.iter().filter(|port| port.node_port.is_some_and(|number| number != 0)).count(),
    };
    Amounts::from([
        ("services".to_owned(), number(1)),
        ("services.nodeports".to_owned(), number(if type_ == "ClusterIP" { 0 } else { node_ports })),
        ("services.loadbalancers".to_owned(), number(usize::from(type_ == "LoadBalancer"))),
    ])
}

fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.clone().unwrap_or_default();
    let mut amounts = Amounts::from([("persistentvolumeclaims".to_owned(), number(1))]);
    let class = spec.storage_class_name.filter(|class| !class.is_empty());
    let of_class = |name: &str| class.as_ref().map(|class| format!("{class}.storageclass.storage.k8s.io/{name}"));
    if let Some(name) = of_class("persistentvolumeclaims") {
        amounts.insert(name, number(1));
    }
    let requested = read(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())).remove("storage");
    // A claim that is being resized uses the larger of what it has and what it will have.
    let has = read(claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref())).remove("storage");
    if let Some(storage) = requested.max(has) {
        of_class("requests.storage").map(|name| amounts.insert(name, storage));
        amounts.insert("requests.storage".to_owned(), storage);
    }
    amounts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(amounts: &Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    fn pod(spec: Value, phase: &str) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({ "spec": spec, "status": { "phase": phase } })).unwrap())
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests, "limits": limits } })
    }

    fn used(limits: &[&str], objects: &Objects<'_>, more: Value) -> Vec<String> {
        let hard: BTreeMap<&str, &str> = limits.iter().map(|name| (*name, "10")).collect();
        let mut spec = json!({ "hard": hard });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let quota = serde_json::from_value(json!({ "spec": spec })).unwrap();
        shown(&usage(&quota, objects, Timestamp::from_second(1000).unwrap()))
    }

    fn objects<'a>(pods: &'a [Arc<Pod>], count: &'a dyn Fn(&str) -> Option<usize>) -> Objects<'a> {
        Objects { pods, services: &[], claims: &[], count }
    }

    #[test]
    fn pods_use_what_they_ask_for_until_they_have_ended() {
        let asks = json!({ "containers": [
            container(json!({ "cpu": "500m", "memory": "1Gi", "example.com/gpu": "2" }), json!({ "cpu": "1" })),
            container(json!({ "cpu": "250m" }), json!({})),
        ], "overhead": { "cpu": "50m" } });
        let pods = [pod(asks.clone(), "Running"), pod(asks.clone(), "Pending"), pod(asks, "Succeeded")];
        let limits = [
            "pods",
            "cpu",
            "requests.cpu",
            "limits.cpu",
            "requests.memory",
            "requests.example.com/gpu",
            "limits.memory",
        ];
        assert_eq!(
            used(&limits, &objects(&pods, &|_| None), json!({})),
            [
                "cpu=1600m",
                "limits.cpu=2100m",
                "limits.memory=0",
                "pods=2",
                "requests.cpu=1600m",
                "requests.example.com/gpu=4",
                "requests.memory=2Gi"
            ]
        );
    }

    #[test]
    fn the_largest_moment_of_initialization_counts() {
        let init = |cpu: &str, policy: Value| json!({ "name": "i", "restartPolicy": policy, "resources": { "requests": { "cpu": cpu } } });
        for (inits, expected) in [
            (json!([init("2", Value::Null)]), "cpu=2"),
            (json!([init("1", json!("Always"))]), "cpu=1500m"),
            (json!([init("1", json!("Always")), init("2", Value::Null)]), "cpu=3"),
        ] {
            let spec =
                json!({ "containers": [container(json!({ "cpu": "500m" }), json!({}))], "initContainers": inits });
            assert_eq!(used(&["cpu"], &objects(&[pod(spec, "Running")], &|_| None), json!({})), [expected], "{inits}");
        }
    }

    #[test]
    fn objects_are_counted_by_resource() {
        let count = |resource: &str| match resource {
            "configmaps" => Some(3),
            "deployments.apps" => Some(7),
            _ => None,
        };
        let limits = ["configmaps", "count/configmaps", "count/deployments.apps", "count/unknown.example.com"];
        assert_eq!(
            used(&limits, &objects(&[], &count), json!({})),
            ["configmaps=3", "count/configmaps=3", "count/deployments.apps=7"]
        );
        let service = |type_: &str| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(json!({ "spec": { "type": type_, "ports": [{ "port": 1 }, { "port": 2 }] } }))
                    .unwrap(),
            )
        };
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "5Gi" } } }
        }))
        .unwrap();
        let services = ["ClusterIP", "NodePort", "LoadBalancer"].map(service);
        let objects = Objects { pods: &[], services: &services, claims: &[Arc::new(claim)], count: &count };
        let limits = [
            "services",
            "services.nodeports",
            "services.loadbalancers",
            "persistentvolumeclaims",
            "fast.storageclass.storage.k8s.io/requests.storage",
        ];
        assert_eq!(
            used(&limits, &objects, json!({})),
            [
                "fast.storageclass.storage.k8s.io/requests.storage=5Gi",
                "persistentvolumeclaims=1",
                "services=3",
                "services.loadbalancers=1",
                "services.nodeports=4"
            ]
        );
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = [
            pod(json!({ "containers": [container(json!({ "cpu": "1" }), json!({}))] }), "Running"),
            pod(
                json!({ "containers": [{ "name": "c" }], "activeDeadlineSeconds": 60, "priorityClassName": "high" }),
                "Running",
            ),
        ];
        for (scopes, expected) in [
            (json!({ "scopes": ["Terminating"] }), "pods=1"),
            (json!({ "scopes": ["NotTerminating", "BestEffort"] }), "pods=0"),
            (json!({ "scopes": ["NotBestEffort"] }), "pods=1"),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] } }),
                "pods=1",
            ),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"] }] } }),
                "pods=1",
            ),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["low"] }] } }),
                "pods=0",
            ),
        ] {
            assert_eq!(used(&["pods"], &objects(&pods, &|_| None), scopes.clone()), [expected], "{scopes}");
        }
    }
}
