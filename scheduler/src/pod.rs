//! A pod as the scheduler keeps it: only what decides where it may run, in compact form.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::affinity::PodAffinity;
use crate::groups::Kind;
use crate::labels::{Labels, Str, intern};
use crate::node::{Effect, Taint};
use crate::resources::{Requests, pod_requests};
use crate::selector::{Requirement, Term};
use crate::spread::SpreadConstraint;

#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub uid: Str,
    pub namespace: Str,
    pub name: Str,
    pub resource_version: Box<str>,
    pub labels: Labels,
    pub scheduler_name: Str,
    pub priority: i32,
    pub may_preempt: bool,
    pub created: Timestamp,
    /// The node it is bound to.
    pub node: Option<Str>,
    pub nominated_node: Option<Str>,
    pub is_terminating: bool,
    /// Succeeded or Failed: it holds no resources any more.
    pub is_terminal: bool,
    pub start_time: Option<Timestamp>,
    pub gates: Box<[Str]>,
    pub requests: Requests,
    pub tolerations: Box<[Toleration]>,
    pub host_ports: Box<[HostPort]>,
    pub images: Box<[Str]>,
    /// All must hold: the node selector, compiled.
    pub node_selector: Box<[Requirement]>,
    /// One must match, if present.
    pub required_nodes: Option<Box<[Term]>>,
    pub preferred_nodes: Box<[(i64, Term)]>,
    /// Which pods it wants to be near, and away from.
    pub affinity: Option<Box<PodAffinity>>,
    /// How its like are to be spread.
    pub spread: Box<[SpreadConstraint]>,
    /// What made it, of the kinds that say which pods are alike.
    pub controller: Option<(Kind, Str)>,
    /// The condition PodScheduled as the API has it: (status, reason, message).
    pub scheduled_condition: Option<(Str, Str, Str)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    key: Option<Str>,
    value: Str,
    exists: bool,
    effect: Option<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: Str,
    pub protocol: Str,
    pub port: i32,
}

const ANY_ADDRESS: &str = "0.0.0.0";

impl HostPort {
    /// Two claims on one port collide unless they are for different protocols or different addresses.
    pub fn conflicts(&self, other: &Self) -> bool {
        let same_address = self.ip == other.ip || &*self.ip == ANY_ADDRESS || &*other.ip == ANY_ADDRESS;
        self.port == other.port && self.protocol == other.protocol && same_address
    }
}

impl Toleration {
    pub fn new(toleration: &api::Toleration) -> Self {
        let text = |field: &Option<String>| field.as_deref().filter(|t| !t.is_empty()).map(intern);
        Self {
            key: text(&toleration.key),
            value: intern(toleration.value.as_deref().unwrap_or_default()),
            exists: toleration.operator.as_deref() == Some("Exists"),
            effect: toleration.effect.as_deref().and_then(Effect::parse),
        }
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_none_or(|e| e == taint.effect);
        let key = match &self.key {
            Some(key) => *key == taint.key,
            None => self.exists,
        };
        effect && key && (self.exists || self.value == taint.value)
    }
}

impl Pod {
    /// The compact form of an API pod; `None` for an object without a spec or uid, which the API never serves.
    pub fn new(pod: &api::Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        let meta = &pod.metadata;
        let node_affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let text = |field: &Option<String>| field.as_deref().filter(|t| !t.is_empty()).map(intern);
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            namespace: intern(meta.namespace.as_deref()?),
            name: meta.name.as_deref()?.into(),
            resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
            labels: Labels::new(meta.labels.as_ref()),
            scheduler_name: intern(spec.scheduler_name.as_deref().unwrap_or("default-scheduler")),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            node: text(&spec.node_name),
            nominated_node: status.and_then(|s| text(&s.nominated_node_name)),
            is_terminating: meta.deletion_timestamp.is_some(),
            is_terminal: matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")),
            start_time: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            gates: spec.scheduling_gates.iter().flatten().map(|g| intern(&g.name)).collect(),
            requests: pod_requests(spec, status),
            tolerations: spec.tolerations.iter().flatten().map(Toleration::new).collect(),
            host_ports: host_ports(spec),
            images: images(spec),
            node_selector: node_selector(spec),
            required_nodes: node_affinity
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
                .map(|s| s.node_selector_terms.iter().map(Term::new).collect()),
            preferred_nodes: node_affinity
                .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
                .map(|terms| preferences(terms))
                .unwrap_or_default(),
            affinity: PodAffinity::new(spec, meta.namespace.as_deref()?).map(Box::new),
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|one| SpreadConstraint::new(one, meta.labels.as_ref()))
                .collect(),
            controller: controller(meta),
            scheduled_condition: status.and_then(scheduled_condition),
        })
    }

    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|t| t.tolerates(taint))
    }

    /// Whether the two differ in nothing that scheduling or its bookkeeping looks at.
    pub fn schedules_like(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.resource_version.clone_from(&self.resource_version);
        other.scheduled_condition.clone_from(&self.scheduled_condition);
        other.nominated_node.clone_from(&self.nominated_node);
        *self == other
    }
}

pub fn preferences(terms: &[api::PreferredSchedulingTerm]) -> Box<[(i64, Term)]> {
    terms.iter().filter(|t| t.weight != 0).map(|t| (i64::from(t.weight), Term::new(&t.preference))).collect()
}

fn controller(meta: &ObjectMeta) -> Option<(Kind, Str)> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    Some((Kind::of_owner(&owner.api_version, &owner.kind)?, owner.name.as_str().into()))
}

fn node_selector(spec: &api::PodSpec) -> Box<[Requirement]> {
    spec.node_selector.iter().flatten().map(|(k, v)| Requirement::equals(k, v)).collect()
}

fn images(spec: &api::PodSpec) -> Box<[Str]> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.filter_map(|c| c.image.as_deref()).map(|i| intern(&with_tag(i))).collect()
}

/// The name under which a node reports an image: with the tag `latest` when none is given.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// Sidecars' ports count with those of the containers: they are open at the same time.
fn host_ports(spec: &api::PodSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports.filter_map(host_port).collect()
}

fn host_port(port: &api::ContainerPort) -> Option<HostPort> {
    let number = port.host_port.filter(|p| *p > 0)?;
    Some(HostPort {
        ip: intern(port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(ANY_ADDRESS)),
        protocol: intern(port.protocol.as_deref().unwrap_or("TCP")),
        port: number,
    })
}

fn scheduled_condition(status: &api::PodStatus) -> Option<(Str, Str, Str)> {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled")?;
    let text = |field: &Option<String>| Arc::from(field.as_deref().unwrap_or_default());
    Some((intern(&condition.status), text(&condition.reason), text(&condition.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: Effect) -> Taint {
        Taint { key: intern(key), value: intern(value), effect }
    }

    #[test]
    fn tolerations_match_taints_as_documented() {
        let dedicated = taint("dedicated", "db", Effect::NoSchedule);
        for (key, operator, value, effect, expected) in [
            (Some("dedicated"), None, Some("db"), None, true),
            (Some("dedicated"), Some("Equal"), Some("db"), Some("NoSchedule"), true),
            (Some("dedicated"), Some("Equal"), Some("web"), Some("NoSchedule"), false),
            (Some("dedicated"), Some("Exists"), None, None, true),
            (Some("dedicated"), Some("Exists"), None, Some("NoExecute"), false),
            (None, Some("Exists"), None, None, true),
            (None, Some("Exists"), None, Some("NoSchedule"), true),
            (Some("other"), Some("Exists"), None, None, false),
        ] {
            let toleration = Toleration::new(&api::Toleration {
                key: key.map(str::to_owned),
                operator: operator.map(str::to_owned),
                value: value.map(str::to_owned),
                effect: effect.map(str::to_owned),
                toleration_seconds: None,
            });
            assert_eq!(toleration.tolerates(&dedicated), expected, "{toleration:?}");
        }
    }

    #[test]
    fn ports_conflict_on_one_address_and_protocol() {
        let port = |ip: &str, protocol: &str, port| HostPort { ip: intern(ip), protocol: intern(protocol), port };
        let wanted = port("127.0.0.1", "TCP", 80);
        assert!(wanted.conflicts(&port("127.0.0.1", "TCP", 80)));
        assert!(wanted.conflicts(&port("0.0.0.0", "TCP", 80)));
        assert!(!wanted.conflicts(&port("127.0.0.2", "TCP", 80)));
        assert!(!wanted.conflicts(&port("127.0.0.1", "UDP", 80)));
        assert!(!wanted.conflicts(&port("127.0.0.1", "TCP", 81)));
    }

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        assert_eq!(with_tag("nginx"), "nginx:latest");
        assert_eq!(with_tag("registry:5000/nginx"), "registry:5000/nginx:latest");
        assert_eq!(with_tag("nginx:1"), "nginx:1");
    }
}
