//! Nodes for tests of controllers: they take pods, make them ready and let them go through the API as kubelets and the scheduler do, without containers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use component_base::client;
use component_base::informer::{Informer, Informers, Store};
use component_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fixture::PATIENCE;

/// Containers of this image never become ready.
pub const BROKEN_IMAGE: &str = "broken";
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Nodes that are alive, and the pods of the whole cluster.
pub struct Fleet {
    shared: Arc<Shared>,
    pods: Informer<Pod>,
    shutdown: Shutdown,
}

struct Shared {
    client: Client,
    alive: Mutex<BTreeSet<String>>,
    /// How many pods were bound, and how many have an address.
    bound: AtomicU32,
    addressed: AtomicU32,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Fleet {
    pub async fn start(client: Client, nodes: &[&str]) -> Result<Self> {
        let shutdown = Shutdown::new();
        let pods = Informers::new(client.clone(), shutdown.clone()).get::<Pod>();
        let shared = Arc::new(Shared {
            client,
            alive: Mutex::default(),
            bound: AtomicU32::new(0),
            addressed: AtomicU32::new(0),
        });
        let fleet = Self { shared, pods, shutdown };
        for node in nodes {
            fleet.add(node).await?;
        }
        let (shared, pods, shutdown) = (Arc::clone(&fleet.shared), fleet.pods.clone(), fleet.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = shared.run(pods) => {}
            }
        });
        Ok(fleet)
    }

    /// A new node, which reports from now on.
    pub async fn add(&self, name: &str) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.shared.client.clone());
        let node = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        nodes.create(&PostParams::default(), &node).await?;
        self.shared.heartbeat(name).await?;
        self.shared.alive.lock().insert(name.to_owned());
        Ok(())
    }

    /// The node falls silent, and lets its pods be.
    pub fn lose(&self, name: &str) {
        self.shared.alive.lock().remove(name);
    }

    /// The node reports again.
    pub fn find(&self, name: &str) {
        self.shared.alive.lock().insert(name.to_owned());
    }

    /// The pods with this `app` label that are not being deleted.
    pub fn pods(&self, app: &str) -> Vec<Arc<Pod>> {
        pods_of(&self.pods.store(), app)
    }

    /// Shows an app's pods after each change of one of them.
    pub fn observe(&self, app: &str, look: impl Fn(&[Arc<Pod>]) + Send + Sync + 'static) {
        let (store, app) = (self.pods.store(), app.to_owned());
        self.pods.on_change(move |_| look(&pods_of(&store, &app)));
    }

    /// Says of a pod whether it is ready, as its node would. For pods of [`BROKEN_IMAGE`], of which the nodes themselves say nothing.
    pub async fn set_ready(&self, pod: &Pod, is_ready: bool) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &pod.namespace().unwrap_or_default());
        // The address that it was given before, which what the caller holds need not show.
        let ip = self.shared.address_of(&api.get(&pod.name_any()).await?);
        patch_status(&api, &pod.name_any(), running(&ip, is_ready)).await?;
        Ok(())
    }

    /// Ends a pod's containers.
    pub async fn finish(&self, pod: &Pod, status: Value) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &pod.namespace().unwrap_or_default());
        patch_status(&api, &pod.name_any(), status).await?;
        Ok(())
    }

    /// Waits until the pods of an app are as demanded; looked at after each change.
    pub async fn until(&self, what: &str, app: &str, demand: impl Fn(&[Arc<Pod>]) -> bool) -> Result<()> {
        let mut changes = self.pods.subscribe();
        let met = async {
            while !demand(&self.pods(app)) {
                if changes.next().await.is_none() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, met).await.with_context(|| format!("{what}: {:?}", summary(&self.pods(app))))
    }
}

fn pods_of(store: &Store<Pod>, app: &str) -> Vec<Arc<Pod>> {
    let is_app = |pod: &Arc<Pod>| pod.labels().get("app").is_some_and(|label| label == app);
    let all = store.list().into_iter();
    all.filter(|pod| is_app(pod) && pod.metadata.deletion_timestamp.is_none()).collect()
}

/// The status of a pod whose containers run.
fn running(ip: &str, is_ready: bool) -> Value {
    let status = if is_ready { "True" } else { "False" };
    let condition = json!({ "type": "Ready", "status": status, "lastTransitionTime": Time(Timestamp::now()) });
    json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [condition] })
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn summary(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|pod| format!("{} on {:?} ready {}", pod.name_any(), node_of(pod), is_ready(pod))).collect()
}

pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Shared {
    async fn run(&self, pods: Informer<Pod>) {
        let mut changes = pods.subscribe();
        let mut beats = tokio::time::interval(HEARTBEAT);
        loop {
            let concerned = tokio::select! {
                change = changes.next() => match change {
                    Some(change) => change.new.into_iter().collect(),
                    None => return,
                },
                _ = beats.tick() => {
                    let alive = self.alive.lock().clone();
                    for node in alive {
                        report(self.heartbeat(&node).await);
                    }
                    pods.store().list()
                }
            };
            for pod in concerned {
                report(self.step(&pod).await);
            }
        }
    }

    /// One step of a pod's life.
    async fn step(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let is_alive = node_of(pod).is_some_and(|node| self.alive.lock().contains(node));
        let is_going = pod.metadata.deletion_timestamp.is_some();
        match node_of(pod) {
            None if !is_going => self.bind(pod).await,
            Some(_) if is_alive && is_going => {
                if !is_over(pod) {
                    let status = json!({ "phase": "Failed", "conditions": [{ "type": "Ready", "status": "False" }] });
                    patch_status(&api, &pod.name_any(), status).await?;
                }
                api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.map(|_| ())
            }
            Some(_) if is_alive && !is_ready(pod) && !is_broken(pod) && !is_over(pod) => {
                patch_status(&api, &pod.name_any(), running(&self.address_of(pod), true)).await
            }
            _ => Ok(()),
        }
    }

    async fn bind(&self, pod: &Pod) -> Result<(), kube::Error> {
        let pinned = serde_json::to_value(&pod.spec).ok().and_then(|spec| {
            let term = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0")?;
            Some(term.as_str()?.to_owned())
        });
        let turn = self.bound.fetch_add(1, Ordering::Relaxed);
        let chosen = {
            let alive = self.alive.lock();
            let turn = usize::try_from(turn).unwrap_or(0) % alive.len().max(1);
            pinned.filter(|node| alive.contains(node)).or_else(|| alive.iter().nth(turn).cloned())
        };
        let Some(node) = chosen else { return Ok(()) };
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod.name_any() },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let path =
            format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace().unwrap_or_default(), pod.name_any());
        let request =
            http::Request::post(path).header("content-type", "application/json").body(binding.to_string().into_bytes());
        self.client.request::<Value>(request.map_err(kube::Error::HttpError)?).await.map(|_| ())
    }

    /// The pod's address, or a new one.
    fn address_of(&self, pod: &Pod) -> String {
        if let Some(known) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
            return known;
        }
        let number = self.addressed.fetch_add(1, Ordering::Relaxed);
        format!("10.244.{}.{}", number / 250 % 250, number % 250 + 1)
    }

    async fn heartbeat(&self, node: &str) -> Result<(), kube::Error> {
        let now = Time(Timestamp::now());
        let condition = json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now });
        patch_status(&Api::<Node>::all(self.client.clone()), node, json!({ "conditions": [condition] })).await
    }
}

fn is_broken(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.into_iter().any(|container| container.image.as_deref() == Some(BROKEN_IMAGE))
}

async fn patch_status<K>(api: &Api<K>, name: &str, status: Value) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Strategic(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(|_| ())
}

/// The pod was changed or deleted meanwhile, which the next step sees; anything else is shown.
fn report(outcome: Result<(), kube::Error>) {
    if let Err(error) = outcome
        && !client::is_not_found(&error)
        && !client::has_code(&error, 409)
    {
        eprintln!("fleet: {error}");
    }
}
