//! What all pod workers share: the node's facts, the runtime, the API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use component_base::events::Recorder;
use component_base::informer::Informer;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;

use crate::cgroups;
use crate::config::KubeletConfiguration;
use crate::downward::Facts;
use crate::images::Images;
use crate::objects::Objects;
use crate::runtime::Runtime;
use crate::runtime::sandbox_config::{NodeFacts, Resolver};

/// Shared by everything in the kubelet.
pub struct Agent {
    pub node_name: String,
    pub config: KubeletConfiguration,
    pub root: PathBuf,
    pub logs: PathBuf,
    pub host_ips: ArcSwap<Vec<String>>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub memory: i64,
    pub resolver: Resolver,
    pub runtime: Arc<dyn Runtime>,
    /// The prefix of container ids, such as `containerd`.
    pub runtime_name: String,
    pub cgroups: cgroups::Manager,
    pub images: Images,
    pub objects: Objects,
    pub recorder: Recorder,
    pub client: Option<Client>,
    /// The API's pods of this node, mirrors of static pods among them.
    pub api_pods: Option<Informer<Pod>>,
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

    pub fn facts<'a>(&'a self, pod_ips: &'a [String], host_ips: &'a [String]) -> Facts<'a> {
        Facts { pod_ips, node_name: &self.node_name, host_ips, allocatable: &self.allocatable }
    }
}
