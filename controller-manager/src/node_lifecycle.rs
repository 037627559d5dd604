//! Node lifecycle: notices nodes that fell silent, and keeps taints in step with what nodes say of themselves.

mod health;
mod taints;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use component_base::client;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Key, Selector, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::context::Context;
use crate::pods;
use health::{Grace, Health, Verdict};
use zones::{Rates, Zones};

/// Where kubelets keep their leases.
const LEASES: &str = "kube-node-lease";
/// Index of pods by node.
pub const BY_NODE: &str = "node";
/// Nodes that are looked at at a time.
const WORKERS: usize = 4;

struct NodeLifecycle {
    client: Client,
    recorder: Recorder,
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    period: Duration,
    grace: Grace,
    health: Mutex<HashMap<String, Health>>,
    zones: Mutex<Zones>,
}

/// Adds the index of pods by node, which several controllers share.
pub fn index_pods(pods: &component_base::informer::Informer<Pod>) {
    pods.add_index(BY_NODE, |pod| {
        pod.spec.iter().filter_map(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()).collect()
    });
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let options = &ctx.options.controllers;
    let client = ctx.client("node-controller").await?;
    let recorder = ctx.recorder(&client, "node-controller");
    let (nodes, pods) = (ctx.informers.get::<Node>(), ctx.informers.get::<Pod>());
    let leases = ctx.informers.get_namespaced::<Lease>(LEASES, Selector::default());
    index_pods(&pods);
    let queue = WorkQueue::new();
    let keys = queue.clone();
    nodes.on_change(move |change| keys.add(change.key()));
    futures::join!(nodes.synced(), pods.synced(), leases.synced());
    let rates = Rates {
        normal: options.node_eviction_rate,
        secondary: options.secondary_node_eviction_rate,
        unhealthy: options.unhealthy_zone_threshold,
        large: options.large_cluster_size_threshold,
    };
    let controller = NodeLifecycle {
        client,
        recorder,
        nodes: nodes.store(),
        leases: leases.store(),
        pods: pods.store(),
        period: options.node_monitor_period.0,
        grace: Grace { running: options.node_monitor_grace_period.0, starting: options.node_startup_grace_period.0 },
        health: Mutex::default(),
        zones: Mutex::new(Zones::new(rates)),
    };
    ctx.run(controller, queue, WORKERS).await;
    Ok(())
}

#[async_trait]
impl Controller for NodeLifecycle {
    type Key = Key;

    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(node) = self.nodes.get(key) else {
            self.health.lock().remove(&key.name);
            return Ok(Requeue::No);
        };
        let now = Timestamp::now();
        let (verdict, fell) = self.observe(&node, now);
        let node = match verdict {
            Verdict::Reporting => node,
            Verdict::Silent(conditions) => {
                tracing::warn!(node = key.name, "node fell silent");
                let patch = serde_json::json!({ "status": { "conditions": conditions } });
                let api: Api<Node> = Api::all(self.client.clone());
                Arc::new(api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await?)
            }
        };
        if fell {
            let note = format!("Node {} status is now: NodeNotReady", key.name);
            self.recorder.event(&reference(node.as_ref()), EventType::Normal, "NodeNotReady", "", note);
        }
        self.taint(&node, now).await?;
        // A kubelet that is there says itself which of its pods are ready.
        if health::is_silent(&node) {
            self.mark_pods(&node, now).await?;
        }
        Ok(Requeue::After(self.period))
    }
}

impl NodeLifecycle {
    /// Takes note of what the node and its lease say; gives whether it is silent, and whether it stopped being ready just now.
    fn observe(&self, node: &Node, now: Timestamp) -> (Verdict, bool) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let renewed = self
            .leases
            .find(LEASES, &name)
            .and_then(|lease| lease.spec.as_ref()?.renew_time.clone())
            .map(|time| time.0);
        let mut all = self.health.lock();
        let health = all.entry(name).or_insert_with(|| Health::first_seen(node, now));
        let was_ready = health.is_ready();
        health.observe(node, renewed, now);
        let verdict = health.judge(node, &self.grace, now);
        if matches!(verdict, Verdict::Silent(_)) {
            health.set_ready(false);
        }
        (verdict, was_ready && !health.is_ready())
    }

    /// Writes the node's taints, if they are not as they should be.
    async fn taint(&self, node: &Node, now: Timestamp) -> Result<(), Error> {
        let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let may_evict = |known: bool| known || self.zones.lock().take(node, &self.nodes.list(), now);
        let Some(wanted) = taints::plan(node, &current, may_evict, now) else { return Ok(()) };
        // The resource version makes it fail if the taints changed since: a list is replaced as a whole.
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": wanted },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        let name = node.metadata.name.as_deref().unwrap_or_default();
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !client::is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Pods of a node that is not ready are not either, so that services leave them out.
    async fn mark_pods(&self, node: &Node, now: Timestamp) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for pod in self.pods.indexed(BY_NODE, name).iter().filter(|pod| pods::is_ready(pod)) {
            let patch = serde_json::json!({ "status": { "conditions": [{
                "type": "Ready",
                "status": "False",
                "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now),
            }] } });
            let api: Api<Pod> =
                Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            match api.patch_status(pod_name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
            self.recorder.event(&reference(pod.as_ref()), EventType::Warning, "NodeNotReady", "", "Node is not ready");
        }
        Ok(())
    }
}
