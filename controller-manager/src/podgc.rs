//! Pods that nobody would take away otherwise: of nodes that are gone or out of service, never placed and yet being deleted, and the oldest of those that
//! have ended when there are too many.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use component_base::client::{is_conflict, is_not_found};
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::context::Context;
use crate::node_lifecycle::{self, BY_NODE};
use crate::pods;

/// How long a node must be missing before it counts as gone: the cache of nodes may be behind that of pods.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Pods that are looked at at a time.
const WORKERS: usize = 4;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Pod(Key),
    /// How many pods have ended.
    Ended,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => key.fmt(f),
            Self::Ended => f.write_str("ended pods"),
        }
    }
}

struct PodGc {
    client: Client,
    pods: Store<Pod>,
    nodes: Store<Node>,
    /// Most ended pods that stay.
    threshold: usize,
    /// Since when nodes with pods are missing.
    missing: Mutex<HashMap<String, Instant>>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("pod-garbage-collector").await?;
    let (pods, nodes) = (ctx.informers.get::<Pod>(), ctx.informers.get::<Node>());
    node_lifecycle::index_pods(&pods);
    let queue = WorkQueue::new();
    let (keys, known) = (queue.clone(), nodes.store());
    pods.on_change(move |change| {
        let Some(pod) = change.new.as_deref() else { return };
        if pods::is_terminal(pod) && change.old.as_deref().is_none_or(|old| !pods::is_terminal(old)) {
            keys.add(Work::Ended);
        }
        if verdict(pod, known.find("", node_of(pod)).as_deref()) != Verdict::Keep {
            keys.add(Work::Pod(change.key()));
        }
    });
    let (keys, on_node) = (queue.clone(), pods.store());
    nodes.on_change(move |change| {
        if change.new.as_deref().is_none_or(is_out_of_service) {
            let pods = on_node.indexed(BY_NODE, &change.object().name_any());
            pods.iter().for_each(|pod| keys.add(Work::Pod(Key::of(pod.as_ref()))));
        }
    });
    futures::join!(pods.synced(), nodes.synced());
    let controller = PodGc {
        client,
        pods: pods.store(),
        nodes: nodes.store(),
        threshold: usize::try_from(ctx.options.controllers.terminated_pod_gc_threshold).unwrap_or(0),
        missing: Mutex::default(),
    };
    ctx.run(controller, queue, WORKERS).await;
    Ok(())
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn is_out_of_service(node: &Node) -> bool {
    let is_ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = is_ready.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    !is_ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Its node is not known.
    NodeMissing,
    /// It is to be deleted: its node is out of service, or it never had one.
    Delete(&'static str),
}

fn verdict(pod: &Pod, node: Option<&Node>) -> Verdict {
    let is_going = pod.metadata.deletion_timestamp.is_some();
    match node {
        _ if node_of(pod).is_empty() => {
            if is_going {
                Verdict::Delete("")
            } else {
                Verdict::Keep
            }
        }
        None => Verdict::NodeMissing,
        Some(node) if is_going && is_out_of_service(node) => Verdict::Delete("PodGC: node out-of-service"),
        Some(_) => Verdict::Keep,
    }
}

/// The oldest of the ended pods beyond the threshold, evicted ones first.
fn excess(mut ended: Vec<std::sync::Arc<Pod>>, threshold: usize) -> Vec<std::sync::Arc<Pod>> {
    let is_evicted = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
    ended.sort_by_key(|pod| (!is_evicted(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0)));
    let count = ended.len().saturating_sub(threshold);
    ended.truncate(count);
    ended
}

#[async_trait]
impl Controller for PodGc {
    type Key = Work;

    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }

    async fn reconcile(&self, work: &Work) -> Result<Requeue, Error> {
        match work {
            Work::Pod(key) => self.look(key).await,
            Work::Ended if self.threshold == 0 => Ok(Requeue::No),
            Work::Ended => {
                let ended = self.pods.list().into_iter().filter(|pod| pods::is_terminal(pod)).collect();
                for pod in excess(ended, self.threshold) {
                    self.delete(&pod, "").await?;
                }
                Ok(Requeue::No)
            }
        }
    }
}

impl PodGc {
    async fn look(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(Requeue::No) };
        let name = node_of(&pod);
        let node = self.nodes.find("", name);
        if node.is_some() {
            self.missing.lock().remove(name);
        }
        match verdict(&pod, node.as_deref()) {
            Verdict::Keep => Ok(Requeue::No),
            Verdict::Delete(why) => self.delete(&pod, why).await,
            Verdict::NodeMissing => {
                let since = *self.missing.lock().entry(name.to_owned()).or_insert_with(Instant::now);
                if since.elapsed() < QUARANTINE {
                    return Ok(Requeue::After(QUARANTINE.saturating_sub(since.elapsed())));
                }
                if Api::<Node>::all(self.client.clone()).get_opt(name).await?.is_some() {
                    return Ok(Requeue::Backoff);
                }
                self.delete(&pod, "PodGC: node no longer exists").await
            }
        }
    }

    /// Deletes a pod at once. With a reason it is said first that it failed, and why.
    async fn delete(&self, pod: &Pod, why: &str) -> Result<Requeue, Error> {
        let (name, api) =
            (pod.name_any(), Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default()));
        let gone = |error: &kube::Error| is_not_found(error) || is_conflict(error);
        if !pods::is_terminal(pod) && !why.is_empty() {
            let condition = serde_json::json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": why,
                "lastTransitionTime": Time(Timestamp::now()),
            });
            let status = serde_json::json!({ "phase": "Failed", "conditions": [condition] });
            let patch = serde_json::json!({ "metadata": { "uid": pod.metadata.uid }, "status": status });
            match api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Err(error) if gone(&error) => return Ok(Requeue::No),
                outcome => outcome?,
            };
        }
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        match api.delete(&name, &DeleteParams::default().grace_period(0).preconditions(preconditions)).await {
            Err(error) if !gone(&error) => Err(error.into()),
            _ => Ok(Requeue::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pods::testing::pod;

    fn going(mut pod: Pod) -> Pod {
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        pod
    }

    #[test]
    fn pods_without_a_keeper_go() {
        let node = |taint: &str, ready: &str| -> Node {
            serde_json::from_value(serde_json::json!({
                "spec": { "taints": [{ "key": taint, "effect": "NoExecute" }] },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap()
        };
        let out = node(OUT_OF_SERVICE, "Unknown");
        for (pod, node, expected) in [
            (pod("a", "n", None), Some(&out), Verdict::Keep),
            (going(pod("a", "n", None)), Some(&out), Verdict::Delete("PodGC: node out-of-service")),
            (going(pod("a", "n", None)), Some(&node(OUT_OF_SERVICE, "True")), Verdict::Keep),
            (going(pod("a", "n", None)), Some(&node("other", "False")), Verdict::Keep),
            (pod("a", "n", None), None, Verdict::NodeMissing),
            (pod("a", "", None), None, Verdict::Keep),
            (going(pod("a", "", None)), None, Verdict::Delete("")),
        ] {
            assert_eq!(verdict(&pod, node), expected);
        }
    }

    #[test]
    fn the_oldest_ended_pods_go_and_evicted_ones_first() {
        let ended = |name: &str, created: i64, reason: Option<&str>| {
            let mut pod = pod(name, "n", None);
            pod.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
            pod.status.as_mut().unwrap().reason = reason.map(str::to_owned);
            Arc::new(pod)
        };
        let all = vec![ended("old", 1, None), ended("new", 9, None), ended("evicted", 5, Some("Evicted"))];
        let names = |threshold| excess(all.clone(), threshold).iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
        assert_eq!(names(3), Vec::<String>::new());
        assert_eq!(names(1), ["evicted", "old"]);
    }
}
