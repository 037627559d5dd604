//! Node IPAM: every node gets a range of pod addresses of its own from `--cluster-cidr`.

mod ranges;

use std::collections::HashMap;

use async_trait::async_trait;
use component_base::client;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::context::Context;
use crate::options::Controllers;
use ranges::{Range, pick};

/// Mask of a node's range, by family, where no flag says otherwise.
const DEFAULT_MASK: (u8, u8) = (24, 64);

struct NodeIpam {
    client: Client,
    recorder: Recorder,
    nodes: Store<Node>,
    ranges: Vec<Range>,
    service_ranges: Vec<IpNet>,
    /// What was given to nodes by name, which the cache may not show yet.
    given: Mutex<HashMap<String, Vec<IpNet>>>,
}

/// Why node ranges cannot be given out.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error("--allocate-node-cidrs needs --cluster-cidr")]
    NoCluster,
    #[error("--cidr-allocator-type {0:?} is not supported: only RangeAllocator")]
    Allocator(String),
    #[error("--cluster-cidr takes one range, or one of each family")]
    Families,
    #[error("a node's mask /{mask} does not fit the range {range}: it must be longer, by at most 16 bits")]
    Mask { range: IpNet, mask: u8 },
}

fn configured(options: &Controllers) -> Result<Vec<Range>, ConfigError> {
    if options.cidr_allocator_type != "RangeAllocator" {
        return Err(ConfigError::Allocator(options.cidr_allocator_type.clone()));
    }
    match options.cluster_cidr.as_slice() {
        [] => return Err(ConfigError::NoCluster),
        [_] => {}
        [IpNet::V4(_), IpNet::V6(_)] | [IpNet::V6(_), IpNet::V4(_)] => {}
        _ => return Err(ConfigError::Families),
    }
    let mask = |range: &IpNet| match range {
        IpNet::V4(_) => options.node_cidr_mask_size_ipv4.or(options.node_cidr_mask_size).unwrap_or(DEFAULT_MASK.0),
        IpNet::V6(_) => options.node_cidr_mask_size_ipv6.or(options.node_cidr_mask_size).unwrap_or(DEFAULT_MASK.1),
    };
    let range = |cluster: &IpNet| {
        let mask = mask(cluster);
        Range::new(*cluster, mask).ok_or(ConfigError::Mask { range: *cluster, mask })
    };
    options.cluster_cidr.iter().map(range).collect()
}

/// Runs the controller, if `--allocate-node-cidrs` is set.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let options = &ctx.options.controllers;
    if !options.allocate_node_cidrs {
        ctx.shutdown.cancelled().await;
        return Ok(());
    }
    let ranges = configured(options)?;
    let client = ctx.client("node-controller").await?;
    let recorder = ctx.recorder(&client, "cidrAllocator");
    let nodes = ctx.informers.get::<Node>();
    let queue = WorkQueue::new();
    let keys = queue.clone();
    nodes.on_change(move |change| {
        if change.is_deleted() || change.object().spec.as_ref().is_none_or(|spec| spec.pod_cidr.is_none()) {
            keys.add(change.key());
        }
    });
    nodes.synced().await;
    let controller = NodeIpam {
        client,
        recorder,
        nodes: nodes.store(),
        ranges,
        service_ranges: options.service_cluster_ip_range.clone(),
        given: Mutex::default(),
    };
    // One at a time: two must not pick the same range.
    ctx.run(controller, queue, 1).await;
    Ok(())
}

/// A node's ranges.
fn ranges_of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|text| text.parse().ok()).collect()
}

#[async_trait]
impl Controller for NodeIpam {
    type Key = Key;

    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(node) = self.nodes.get(key) else {
            self.given.lock().remove(&key.name);
            return Ok(Requeue::No);
        };
        if !ranges_of(&node).is_empty() {
            self.given.lock().remove(&key.name);
            return Ok(Requeue::No);
        }
        let Some(chosen) = self.choose(&key.name) else {
            let note = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.recorder.event(&reference(node.as_ref()), EventType::Normal, "CIDRNotAvailable", "", note);
            return Err("no range of pod addresses is left".into());
        };
        let texts: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let patch = serde_json::json!({ "spec": { "podCIDR": texts[0], "podCIDRs": texts } });
        let api: Api<Node> = Api::all(self.client.clone());
        match api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => tracing::info!(node = key.name, ranges = texts.join(","), "node got its pod addresses"),
            Err(error) if client::is_not_found(&error) => {
                self.given.lock().remove(&key.name);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Requeue::No)
    }
}

impl NodeIpam {
    /// A free range of each cluster range; what was chosen for the node before stays.
    fn choose(&self, name: &str) -> Option<Vec<IpNet>> {
        let mut given = self.given.lock();
        if let Some(before) = given.get(name) {
            return Some(before.clone());
        }
        let mut used: Vec<IpNet> = self.nodes.list().iter().flat_map(|node| ranges_of(node)).collect();
        used.extend(given.values().flatten());
        used.extend(&self.service_ranges);
        let chosen: Vec<IpNet> = self.ranges.iter().map(|range| pick(range, &used)).collect::<Option<_>>()?;
        given.insert(name.to_owned(), chosen.clone());
        Some(chosen)
    }
}
