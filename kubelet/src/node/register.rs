//! Registers the node and keeps its status true: at once when it changes, and now and then when it does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use component_base::client::{has_code, is_not_found};
use component_base::informer::Informer;
use component_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, NodeSystemInfo, Taint};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::facts::{self, Machine};
use super::status::{self, Observed};
use crate::agent::Agent;

const RETRY: Duration = Duration::from_millis(300);
/// While the node is not ready it is looked at more often, so that it is ready soon.
const UNREADY_PERIOD: Duration = Duration::from_millis(400);

struct Registrar {
    agent: Arc<Agent>,
    nodes: Api<Node>,
    machine: Machine,
    info: NodeSystemInfo,
    /// Once registered, a node that is deleted stays so until its kubelet starts again: someone wanted it gone.
    registered: bool,
    reported: Option<(NodeStatus, Timestamp)>,
    pod_cidr: Option<String>,
}

/// Keeps the node until shutdown.
pub async fn run(agent: Arc<Agent>, client: Client, machine: Machine, runtime_version: String, shutdown: Shutdown) {
    let info = facts::system_info(&runtime_version);
    let nodes = Api::all(client);
    let mut registrar = Registrar { agent, nodes, machine, info, registered: false, reported: None, pod_cidr: None };
    let mut changes = registrar.agent.node.as_ref().map(Informer::subscribe);
    let mut changed = async || match &mut changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    };
    let mut pressures = registrar.agent.pressures.subscribe();
    let mut until = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            // The agent, and with it the sender, lives as long as this task.
            _ = pressures.changed() => {}
            change = changed() => {
                if let Some(node) = change.and_then(|change| change.new) {
                    registrar.follow_cidr(&node).await;
                    if registrar.reported.is_none() {
                        until = Instant::now();
                    }
                }
                continue;
            }
            () = shutdown.cancelled() => return,
        }
        let wait = match registrar.sync().await {
            Ok(true) => registrar.agent.config.node_status_update_frequency.0,
            Ok(false) => UNREADY_PERIOD,
            Err(error) => {
                tracing::warn!(%error, "the node's status cannot be written");
                if is_not_found(&error) { registrar.agent.config.node_status_update_frequency.0 } else { RETRY }
            }
        };
        until = Instant::now() + wait;
    }
}

/// Labels that every node has.
pub fn own_labels(name: &str) -> BTreeMap<String, String> {
    let arch = component_base::version::go_arch();
    [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

impl Registrar {
    /// Whether the node is ready.
    async fn sync(&mut self) -> Result<bool, kube::Error> {
        let runtime = self.agent.runtime.status().await;
        let problems = status::problems(runtime.as_ref().map_err(ToString::to_string));
        if let Ok(runtime) = &runtime {
            self.agent.strict_groups.store(status::strict_groups(runtime), Ordering::Relaxed);
        }
        if !self.registered {
            self.register(&problems).await?;
            self.registered = true;
        }
        let images = match self.agent.runtime.images().await {
            Ok(images) => status::images(images, self.agent.config.node_status_max_images),
            Err(error) => {
                tracing::debug!(%error, "images cannot be listed");
                Vec::new()
            }
        };
        let ips = self.agent.host_ips.load_full();
        let observed = Observed {
            machine: &self.machine,
            name: &self.agent.node_name,
            ips: &ips,
            info: &self.info,
            images: &images,
            problems: &problems,
            runtime: runtime.as_ref().ok(),
            pressures: &self.agent.pressures.borrow().clone(),
            now: Timestamp::now(),
        };
        let empty = NodeStatus::default();
        let previous = self.reported.as_ref().map_or(&empty, |(status, _)| status);
        let next = status::compute(&observed, &self.agent.config, previous);
        let report = self.agent.config.node_status_report_frequency.0;
        let due = self.reported.as_ref().is_none_or(|(old, at)| {
            let age = Duration::try_from(Timestamp::now().duration_since(*at)).unwrap_or(report);
            age >= report || status::changed(old, &next)
        });
        if due {
            self.patch(&next).await?;
            self.reported = Some((next, Timestamp::now()));
        }
        Ok(problems.is_empty())
    }

    async fn patch(&mut self, next: &NodeStatus) -> Result<Node, kube::Error> {
        let body = json!({ "status": next });
        let name = &self.agent.node_name;
        match self.nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(body)).await {
            Err(error) if is_not_found(&error) => {
                self.reported = None;
                Err(error)
            }
            other => other,
        }
    }

    /// Tells the runtime the node's range of pod addresses, for runtimes that write their own network configuration.
    async fn follow_cidr(&mut self, node: &Node) {
        let cidr = node.spec.as_ref().and_then(|spec| {
            let all = spec.pod_cidrs.as_ref().map(|cidrs| cidrs.join(","));
            all.filter(|all| !all.is_empty()).or_else(|| spec.pod_cidr.clone())
        });
        let Some(cidr) = cidr.filter(|cidr| Some(cidr) != self.pod_cidr.as_ref()) else { return };
        match self.agent.runtime.set_pod_cidr(&cidr).await {
            Ok(()) => self.pod_cidr = Some(cidr),
            Err(error) => tracing::warn!(%error, "the runtime does not take the pod CIDR"),
        }
    }

    async fn register(&mut self, problems: &[String]) -> Result<(), kube::Error> {
        let name = self.agent.node_name.clone();
        let labels = self.agent.labels.clone();
        if let Some(existing) = self.nodes.get_opt(&name).await? {
            let current = existing.metadata.labels.unwrap_or_default();
            let missing = labels.iter().any(|(key, value)| current.get(key) != Some(value));
            if missing {
                let body = json!({ "metadata": { "labels": labels } });
                self.nodes.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await?;
            }
            return Ok(());
        }
        if !self.agent.config.register_node {
            return Ok(());
        }
        let mut taints: Vec<Taint> = self.agent.config.register_with_taints.clone();
        if !problems.is_empty() {
            taints.push(Taint {
                key: "node.kubernetes.io/not-ready".into(),
                effect: "NoSchedule".into(),
                ..Default::default()
            });
        }
        let annotations =
            [("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())].into();
        let provider_id = Some(self.agent.config.provider_id.clone()).filter(|id| !id.is_empty());
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels),
                annotations: Some(annotations),
                ..Default::default()
            },
            spec: Some(NodeSpec { taints: (!taints.is_empty()).then_some(taints), provider_id, ..Default::default() }),
            status: None,
        };
        match self.nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {
                tracing::info!(node = name, "the node is registered");
                Ok(())
            }
            Err(error) if has_code(&error, 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
