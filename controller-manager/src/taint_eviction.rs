//! Taint eviction: pods leave nodes with NoExecute taints that they do not tolerate, or not for longer.

mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use component_base::client;
use component_base::events::{Recorder, reference};
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};

use crate::context::Context;
use crate::node_lifecycle::{self, BY_NODE};
use crate::pods;
pub use plan::tolerates;
use plan::{Eviction, no_execute, plan};

/// Pods that are looked at at a time.
const WORKERS: usize = 8;

struct TaintEviction {
    client: Client,
    recorder: Recorder,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("node-controller").await?;
    let recorder = ctx.recorder(&client, "taint-eviction-controller");
    let (nodes, pods) = (ctx.informers.get::<Node>(), ctx.informers.get::<Pod>());
    node_lifecycle::index_pods(&pods);
    let queue = WorkQueue::new();
    let (keys, on_node) = (queue.clone(), pods.store());
    nodes.on_change(move |change| {
        let taints = |node: &Option<Arc<Node>>| node.as_deref().map(no_execute).unwrap_or_default();
        if taints(&change.old) != taints(&change.new) {
            for pod in on_node.indexed(BY_NODE, change.object().metadata.name.as_deref().unwrap_or_default()) {
                keys.add(Key::of(pod.as_ref()));
            }
        }
    });
    let (keys, tainted) = (queue.clone(), nodes.store());
    pods.on_change(move |change| {
        let node = change.object().spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let concerns = tainted.find("", node).is_some_and(|node| !no_execute(&node).is_empty());
        if concerns && !change.is_deleted() {
            keys.add(change.key());
        }
    });
    futures::join!(nodes.synced(), pods.synced());
    let controller = TaintEviction { client, recorder, nodes: nodes.store(), pods: pods.store() };
    ctx.run(controller, queue, WORKERS).await;
    Ok(())
}

#[async_trait]
impl Controller for TaintEviction {
    type Key = Key;

    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(Requeue::No) };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let taints: Vec<Taint> = self.nodes.find("", node).map(|node| no_execute(&node)).unwrap_or_default();
        if taints.is_empty() || pod.metadata.deletion_timestamp.is_some() || pods::is_terminal(&pod) {
            return Ok(Requeue::No);
        }
        match plan(&pod, &taints, Timestamp::now()) {
            Eviction::Never => Ok(Requeue::No),
            Eviction::In(wait) => Ok(Requeue::After(wait)),
            Eviction::Now => self.evict(&pod).await,
        }
    }
}

impl TaintEviction {
    async fn evict(&self, pod: &Pod) -> Result<Requeue, Error> {
        let (namespace, name) =
            (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
        let note = format!("Marking for deletion Pod {namespace}/{name}");
        self.recorder.normal(&reference(pod), "TaintManagerEviction", note);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let patch = serde_json::json!({
            "metadata": { "uid": pod.metadata.uid },
            "status": { "conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": Time(Timestamp::now()),
            }] },
        });
        let gone = |error: &kube::Error| client::is_not_found(error) || client::is_conflict(error);
        match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if gone(&error) => return Ok(Requeue::No),
            outcome => outcome?,
        };
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        match api.delete(name, &DeleteParams::default().preconditions(preconditions)).await {
            Err(error) if !gone(&error) => Err(error.into()),
            _ => Ok(Requeue::No),
        }
    }
}
