//! What objects use of the resources that ResourceQuotas limit, and which quotas are for which objects: pure. The API server
//! charges by it, the controller manager counts by it.
//!
//! Kubernetes documentation, "Resource Quotas".

mod pods;
pub mod scopes;

use std::collections::BTreeMap;

use apimachinery::quantity::{Format, Quantity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

pub use pods::{Side, is_charged, missing, total};

/// Amounts by the names that quotas use.
pub type Amounts = BTreeMap<String, Quantity>;
/// Amounts as API objects say them.
pub type List<'a> = Option<&'a BTreeMap<String, ApiQuantity>>;

/// An object as quotas see it.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    Pod(&'a Pod),
    Service(&'a Service),
    Claim(&'a PersistentVolumeClaim),
    /// An object that is only counted, by the name of its resource (`configmaps`, `deployments.apps`).
    Other(&'a str),
}

impl Object<'_> {
    /// What the object uses.
    pub fn usage(self, now: Timestamp) -> Amounts {
        match self {
            Object::Pod(pod) => of_pod(pod, now),
            Object::Service(service) => of_service(service),
            Object::Claim(claim) => of_claim(claim),
            Object::Other(resource) => {
                let mut amounts = Amounts::from([(count_name(resource), number(1))]);
                if counted(resource).is_some() {
                    amounts.insert(resource.to_owned(), number(1));
                }
                amounts
            }
        }
    }

    /// Whether a limit of this name is on something that objects of this sort can use.
    pub fn can_use(self, limit: &str) -> bool {
        match self {
            Object::Pod(_) => pods::can_use(limit),
            Object::Service(_) => {
                matches!(limit, "services" | "services.nodeports" | "services.loadbalancers" | "count/services")
            }
            Object::Claim(_) => {
                let of_class = limit.split_once(CLASS_INFIX).map_or("", |(_, name)| name);
                matches!(limit, "persistentvolumeclaims" | "requests.storage" | "count/persistentvolumeclaims")
                    || matches!(of_class, "persistentvolumeclaims" | "requests.storage")
            }
            Object::Other(resource) => counted(limit) == Some(resource),
        }
    }
}

const CLASS_INFIX: &str = ".storageclass.storage.k8s.io/";

/// The resource whose objects a limit counts, if it counts objects.
pub fn counted(limit: &str) -> Option<&str> {
    match limit {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => Some(limit),
        _ => limit.strip_prefix("count/"),
    }
}

fn count_name(resource: &str) -> String {
    format!("count/{resource}")
}

/// A whole amount.
pub fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// Adds amounts by name.
pub fn add(all: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let total = match all.get(&name) {
            Some(known) => *known + amount,
            None => amount,
        };
        all.insert(name, total);
    }
}

/// Amounts that can be read; validation has refused the others.
pub fn read(list: List<'_>) -> Amounts {
    let parsed = |(name, amount): (&String, &ApiQuantity)| Some((name.clone(), amount.0.parse().ok()?));
    list.into_iter().flatten().filter_map(parsed).collect()
}

/// What a pod uses: as an object always, of everything else until it has ended.
pub fn of_pod(pod: &Pod, now: Timestamp) -> Amounts {
    let mut amounts = Amounts::from([(count_name("pods"), number(1))]);
    if is_charged(pod, now) {
        add(&mut amounts, pods::usage(pod));
    }
    amounts
}

/// What a service uses.
pub fn of_service(service: &Service) -> Amounts {
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
        (count_name("services"), number(1)),
        ("services.nodeports".to_owned(), number(if type_ == "ClusterIP" { 0 } else { node_ports })),
        ("services.loadbalancers".to_owned(), number(usize::from(type_ == "LoadBalancer"))),
    ])
}

/// What a claim uses.
pub fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.clone().unwrap_or_default();
    let mut amounts = Amounts::from([
        ("persistentvolumeclaims".to_owned(), number(1)),
        (count_name("persistentvolumeclaims"), number(1)),
    ]);
    let class = spec.storage_class_name.filter(|class| !class.is_empty());
    let of_class = |name: &str| class.as_ref().map(|class| format!("{class}{CLASS_INFIX}{name}"));
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
