//! What all pod workers share: the node's facts, the runtime, the API.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use component_base::events::Recorder;
use component_base::informer::Informer;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::KubeletConfiguration;
use crate::downward::Facts;
use crate::eviction::Pressure;
use crate::images::Images;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::places::Places;
use crate::pod::status::Failure;
use crate::runtime::sandbox_config::{NodeFacts, Resolver};
use crate::runtime::{Runtime, container_config};
use crate::{admission, cgroups};

/// Shared by everything in the kubelet.
pub struct Agent {
    pub node_name: String,
    pub config: KubeletConfiguration,
    pub root: PathBuf,
    pub logs: PathBuf,
    pub host_ips: ArcSwap<Vec<String>>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub places: Places,
    pub container_limits: container_config::Node,
    pub resolver: Resolver,
    pub runtime: Arc<dyn Runtime>,
    /// The prefix of container ids, such as `containerd`.
    pub runtime_name: String,
    /// The uids of pods that the runtime had something of when it was first asked. What is not among them began under this kubelet.
    pub found: watch::Sender<Option<HashSet<String>>>,
    pub cgroups: cgroups::Manager,
    pub images: Images,
    pub objects: Objects,
    pub recorder: Recorder,
    pub client: Option<Client>,
    /// The API's pods of this node, mirrors of static pods among them.
    pub api_pods: Option<Informer<Pod>>,
    /// This node as the API has it.
    pub node: Option<Informer<Node>>,
    /// The labels that the node is registered with.
    pub labels: BTreeMap<String, String>,
    pub has_apparmor: bool,
    /// Whether the runtime knows `supplementalGroupsPolicy: Strict`.
    pub strict_groups: AtomicBool,
    /// What the node is short of.
    pub pressures: watch::Sender<BTreeSet<Pressure>>,
    /// The image of sandboxes, which no container names and which must stay.
    pub sandbox_image: Option<String>,
    pub metrics: Metrics,
    pub clock: Clock,
}

impl Agent {
    pub fn sandbox_facts(&self) -> NodeFacts<'_> {
        NodeFacts {
            cluster_dns: &self.config.cluster_dns,
            cluster_domain: &self.config.cluster_domain,
            resolver: &self.resolver,
            logs: &self.logs,
        }
    }

    /// Why the node does not take a pod beside those others, if it does not.
    pub fn refusal(&self, pod: &Pod, others: &[Arc<Pod>]) -> Option<Failure> {
        let known = self.node.as_ref().and_then(|node| node.store().find("", &self.node_name));
        let labels = known.as_ref().and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&self.labels);
        let taints = known.as_ref().and_then(|node| node.spec.as_ref()?.taints.as_deref()).unwrap_or_default();
        let node = admission::Node {
            name: &self.node_name,
            labels,
            taints,
            allocatable: &self.allocatable,
            allowed_sysctls: &self.config.allowed_unsafe_sysctls,
            has_apparmor: self.has_apparmor,
            strict_groups: self.strict_groups.load(Ordering::Relaxed),
            pressures: &self.pressures.borrow().clone(),
        };
        admission::refusal(pod, others, node)
    }

    pub fn facts<'a>(&'a self, pod_ips: &'a [String], host_ips: &'a [String]) -> Facts<'a> {
        Facts { pod_ips, node_name: &self.node_name, host_ips, allocatable: &self.allocatable }
    }
}
