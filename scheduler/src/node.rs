//! A node as the scheduler keeps it: `Node`, what its object says, and `NodeInfo`, that with the pods on it.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use crate::labels::{Labels, Str, intern};
use crate::pod::{HostPort, Pod};
use crate::quantity::value;
use crate::resources::Resources;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: Str,
    pub value: Str,
    pub effect: Effect,
}

/// What a Node object says, as far as scheduling cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Str,
    pub labels: Labels,
    pub unschedulable: bool,
    pub taints: Box<[Taint]>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    /// Every name of every image on the node, with the image's size.
    pub images: Box<[(Str, i64)]>,
}

impl Node {
    pub fn new(node: &api::Node) -> Option<Self> {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        Some(Self {
            name: intern(node.metadata.name.as_deref()?),
            labels: Labels::new(node.metadata.labels.as_ref()),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            taints: spec.and_then(|s| s.taints.as_deref()).unwrap_or_default().iter().filter_map(taint).collect(),
            allocatable: Resources::from_list(allocatable),
            allowed_pods: allocatable.and_then(|a| a.get("pods")).map_or(0, value),
            images: status.and_then(|s| s.images.as_deref()).unwrap_or_default().iter().flat_map(image_names).collect(),
        })
    }

    pub fn prefers_no_schedule(&self) -> bool {
        self.taints.iter().any(|t| t.effect == Effect::PreferNoSchedule)
    }

    /// Region and zone, by which nodes are taken in turn.
    pub fn zone(&self) -> (Option<&Str>, Option<&Str>) {
        (self.labels.get(REGION), self.labels.get(ZONE))
    }
}

fn taint(taint: &api::Taint) -> Option<Taint> {
    Some(Taint {
        key: intern(&taint.key),
        value: intern(taint.value.as_deref().unwrap_or_default()),
        effect: Effect::parse(&taint.effect)?,
    })
}

fn image_names(image: &api::ContainerImage) -> impl Iterator<Item = (Str, i64)> {
    let size = image.size_bytes.unwrap_or(0);
    image.names.iter().flatten().map(move |name| (intern(name), size))
}

/// A node with what runs on it, or is about to.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub pods: Vec<Arc<Pod>>,
    pub requested: Resources,
    pub non_zero_milli_cpu: i64,
    pub non_zero_memory: i64,
    pub host_ports: Vec<HostPort>,
    /// Grows with every change in the cache: equal generations mean an unchanged node.
    pub generation: u64,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            pods: Vec::new(),
            requested: Resources::default(),
            non_zero_milli_cpu: 0,
            non_zero_memory: 0,
            host_ports: Vec::new(),
            generation: 0,
        }
    }

    pub fn name(&self) -> &Str {
        &self.node.name
    }

    pub fn add_pod(&mut self, pod: Arc<Pod>) {
        self.requested.add(&pod.requests.exact);
        self.non_zero_milli_cpu += pod.requests.non_zero_milli_cpu;
        self.non_zero_memory += pod.requests.non_zero_memory;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes the pod off the node and returns it, if it was there.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let index = self.pods.iter().position(|p| &*p.uid == uid)?;
        let pod = self.pods.swap_remove(index);
        self.requested.subtract(&pod.requests.exact);
        self.non_zero_milli_cpu -= pod.requests.non_zero_milli_cpu;
        self.non_zero_memory -= pod.requests.non_zero_memory;
        for port in &pod.host_ports {
            if let Some(index) = self.host_ports.iter().position(|p| p == port) {
                self.host_ports.swap_remove(index);
            }
        }
        Some(pod)
    }
}
