//! What unit tests stand on: a runtime that does nothing but remember what it was asked, and a kubelet around it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use component_base::events::Recorder;
use component_base::shutdown::Shutdown;
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use proto::cri as api;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::cgroups;
use crate::clock::Clock;
use crate::config::KubeletConfiguration;
use crate::images::Images;
use crate::objects::Objects;
use crate::runtime::sandbox_config::Resolver;
use crate::runtime::{Error, ExecOutcome, Listing, Runtime, container_config};
use crate::worker::{Handle, Input, Worker};

/// The time at which tests begin.
pub const START: &str = "2026-01-01T00:00:00Z";

/// A call as it is remembered: when, counted from the first, and in words.
pub type Call = (Duration, String);

type Exec = dyn Fn(&[String]) -> Result<ExecOutcome, Error> + Send + Sync;

/// How containers of a name behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// They end with this code as soon as they start.
    pub exits: Option<i32>,
    /// They do not end on SIGTERM.
    pub is_deaf: bool,
}

/// A runtime in memory that writes down every call which changes something.
pub struct Recording {
    began: Instant,
    clock: Clock,
    calls: Mutex<Vec<Call>>,
    sandboxes: Mutex<Vec<api::PodSandbox>>,
    containers: Mutex<Vec<api::ContainerStatus>>,
    sandbox_of: Mutex<HashMap<String, String>>,
    pub behaviours: Mutex<HashMap<String, Behaviour>>,
    /// Images that can be pulled; all others are present.
    pub pulls: Mutex<HashMap<String, Result<(), String>>>,
    pub exec: Mutex<Arc<Exec>>,
}

impl Recording {
    fn new(clock: Clock) -> Self {
        let good: Arc<Exec> = Arc::new(|_| Ok(ExecOutcome::default()));
        Self {
            began: Instant::now(),
            clock,
            calls: Mutex::default(),
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            sandbox_of: Mutex::default(),
            behaviours: Mutex::default(),
            pulls: Mutex::default(),
            exec: Mutex::new(good),
        }
    }

    fn note(&self, text: impl Into<String>) {
        self.calls.lock().push((self.began.elapsed(), text.into()));
    }

    /// The calls so far, which are then forgotten.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock()).into_iter().map(|(_, text)| text).collect()
    }

    /// When calls that begin with a word were made, in seconds.
    pub fn times(&self, word: &str) -> Vec<u64> {
        self.calls.lock().iter().filter(|(_, text)| text.starts_with(word)).map(|(at, _)| at.as_secs()).collect()
    }

    fn nanos(&self) -> i64 {
        i64::try_from(self.clock.now().as_nanosecond()).unwrap()
    }

    fn end(&self, container: &mut api::ContainerStatus, code: i32) {
        container.state = api::ContainerState::ContainerExited.into();
        container.exit_code = code;
        container.finished_at = self.nanos();
        container.reason = if code == 0 { "Completed" } else { "Error" }.into();
    }

    /// The container of that id ends by itself.
    pub fn exit(&self, id: &str, code: i32) {
        let mut containers = self.containers.lock();
        self.end(containers.iter_mut().find(|container| container.id == id).unwrap(), code);
    }

    fn behaviour(&self, id: &str) -> Behaviour {
        let containers = self.containers.lock();
        let found = containers.iter().find(|container| container.id == id);
        let name = found.and_then(|container| container.metadata.as_ref()).map(|metadata| metadata.name.clone());
        name.and_then(|name| self.behaviours.lock().get(&name).copied()).unwrap_or_default()
    }

    fn failed(text: &str) -> Error {
        Error::Call(Box::new(tonic::Status::unknown(text)))
    }
}

#[async_trait]
impl Runtime for Recording {
    async fn version(&self) -> Result<api::VersionResponse, Error> {
        Ok(api::VersionResponse::default())
    }

    async fn status(&self) -> Result<api::StatusResponse, Error> {
        Ok(api::StatusResponse::default())
    }

    async fn sandbox_image(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn set_pod_cidr(&self, cidr: &str) -> Result<(), Error> {
        self.note(format!("cidr {cidr}"));
        Ok(())
    }

    async fn list(&self, _: Option<&str>) -> Result<Listing, Error> {
        self.note("list");
        let sandbox_of = self.sandbox_of.lock();
        let container = |status: &api::ContainerStatus| api::Container {
            id: status.id.clone(),
            pod_sandbox_id: sandbox_of[&status.id].clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            ..Default::default()
        };
        let containers = self.containers.lock().iter().map(container).collect();
        Ok(Listing { sandboxes: self.sandboxes.lock().clone(), containers })
    }

    async fn run_sandbox(&self, config: &api::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        let metadata = config.metadata.clone().unwrap();
        let id = format!("{}-{}", metadata.name, metadata.attempt);
        self.note(format!("sandbox {id}{handler}"));
        let state = api::PodSandboxState::SandboxReady.into();
        let sandbox = api::PodSandbox { id: id.clone(), metadata: Some(metadata), state, ..Default::default() };
        self.sandboxes.lock().push(sandbox);
        Ok(id)
    }

    async fn sandbox_status(&self, id: &str) -> Result<api::PodSandboxStatus, Error> {
        let network = api::PodSandboxNetworkStatus { ip: "10.0.0.9".into(), ..Default::default() };
        Ok(api::PodSandboxStatus { id: id.to_owned(), network: Some(network), ..Default::default() })
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        self.note(format!("stop-sandbox {id}"));
        for sandbox in self.sandboxes.lock().iter_mut().filter(|sandbox| sandbox.id == id) {
            sandbox.state = api::PodSandboxState::SandboxNotready.into();
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        self.note(format!("remove-sandbox {id}"));
        self.sandboxes.lock().retain(|sandbox| sandbox.id != id);
        let sandbox_of = self.sandbox_of.lock();
        self.containers.lock().retain(|container| sandbox_of[&container.id] != id);
        Ok(())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: api::ContainerConfig,
        _: &api::PodSandboxConfig,
    ) -> Result<String, Error> {
        let metadata = config.metadata.clone().unwrap();
        let id = format!("{}-{}", metadata.name, metadata.attempt);
        self.note(format!("create {id}"));
        self.sandbox_of.lock().insert(id.clone(), sandbox.to_owned());
        self.containers.lock().push(api::ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            created_at: self.nanos(),
            annotations: config.annotations,
            mounts: config.mounts,
            log_path: config.log_path,
            resources: Some(api::ContainerResources {
                linux: config.linux.and_then(|linux| linux.resources),
                ..Default::default()
            }),
            ..Default::default()
        });
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        self.note(format!("start {id}"));
        let behaviour = self.behaviour(id);
        let mut containers = self.containers.lock();
        let container = containers.iter_mut().find(|container| container.id == id).unwrap();
        container.state = api::ContainerState::ContainerRunning.into();
        container.started_at = self.nanos();
        if let Some(code) = behaviour.exits {
            self.end(container, code);
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        self.note(format!("stop {id} {}", grace.as_secs()));
        let is_deaf = self.behaviour(id).is_deaf;
        if is_deaf {
            tokio::time::sleep(grace).await;
        }
        self.note(format!("stopped {id}"));
        self.exit(id, if is_deaf { 137 } else { 0 });
        Ok(())
    }

    async fn update_resources(&self, id: &str, resources: api::LinuxContainerResources) -> Result<(), Error> {
        self.note(format!("update {id} {} {}", resources.cpu_shares, resources.memory_limit_in_bytes));
        let mut containers = self.containers.lock();
        let container = containers.iter_mut().find(|container| container.id == id).unwrap();
        container.resources = Some(api::ContainerResources { linux: Some(resources), ..Default::default() });
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.note(format!("remove {id}"));
        self.containers.lock().retain(|container| container.id != id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<api::ContainerStatus, Error> {
        let found = self.containers.lock().iter().find(|container| container.id == id).cloned();
        found.ok_or_else(|| Error::Call(Box::new(tonic::Status::not_found(id))))
    }

    async fn reopen_log(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn exec_sync(&self, id: &str, command: &[String], _: Duration) -> Result<ExecOutcome, Error> {
        self.note(format!("exec {id} {}", command.join(" ")));
        let exec = Arc::clone(&self.exec.lock());
        exec(command)
    }

    async fn exec(&self, _: api::ExecRequest) -> Result<String, Error> {
        Err(Self::failed("no streams here"))
    }

    async fn attach(&self, _: api::AttachRequest) -> Result<String, Error> {
        Err(Self::failed("no streams here"))
    }

    async fn port_forward(&self, _: api::PortForwardRequest) -> Result<String, Error> {
        Err(Self::failed("no streams here"))
    }

    async fn image(&self, image: &str) -> Result<Option<api::Image>, Error> {
        let present = !self.pulls.lock().contains_key(image);
        Ok(present.then(|| api::Image { id: image.to_owned(), ..Default::default() }))
    }

    async fn images(&self) -> Result<Vec<api::Image>, Error> {
        Ok(Vec::new())
    }

    async fn pull(&self, image: &str, _: Option<api::AuthConfig>, _: &api::PodSandboxConfig) -> Result<String, Error> {
        self.note(format!("pull {image}"));
        let outcome = self.pulls.lock().get(image).cloned();
        match outcome {
            Some(Err(error)) => Err(Self::failed(&error)),
            _ => {
                self.pulls.lock().remove(image);
                Ok(image.to_owned())
            }
        }
    }

    async fn remove_image(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn image_filesystem(&self) -> Result<Option<api::FilesystemUsage>, Error> {
        Ok(None)
    }

    async fn stats(&self) -> Result<Vec<api::ContainerStats>, Error> {
        Ok(Vec::new())
    }

    async fn ends(&self) -> Result<BoxStream<'static, String>, Error> {
        Ok(futures::stream::pending().boxed())
    }
}

/// A kubelet without API server whose runtime had nothing when it started.
pub fn agent(root: &Path) -> (Arc<Agent>, Arc<Recording>) {
    let clock = Clock::following_tokio(START.parse::<Timestamp>().unwrap());
    let recording = Arc::new(Recording::new(clock));
    let runtime: Arc<dyn Runtime> = recording.clone();
    let config = KubeletConfiguration { cgroups_per_qos: false, ..Default::default() };
    let agent = Agent {
        node_name: "n1".into(),
        root: root.join("kubelet"),
        logs: root.join("logs"),
        host_ips: ArcSwap::from_pointee(vec!["192.168.0.1".to_owned()]),
        allocatable: [("cpu", "4"), ("memory", "4Gi"), ("pods", "10")]
            .map(|(key, value)| (key.to_owned(), Quantity(value.to_owned())))
            .into(),
        places: Default::default(),
        container_limits: container_config::Node { memory: 1 << 30, cpu_quota: true, cgroup_files: &[] },
        resolver: Resolver::default(),
        runtime: Arc::clone(&runtime),
        runtime_name: "recording".into(),
        found: watch::Sender::new(Some(Default::default())),
        cgroups: cgroups::Manager::new("cgroupfs", "corten-unit-tests", -1),
        images: Images::new(runtime, clock, &config),
        objects: Objects::new(None),
        recorder: Recorder::discard(),
        client: None,
        api_pods: None,
        node: None,
        labels: Default::default(),
        has_apparmor: false,
        strict_groups: AtomicBool::new(false),
        pressures: watch::Sender::default(),
        sandbox_image: None,
        metrics: Default::default(),
        clock,
        config,
    };
    (Arc::new(agent), recording)
}

/// A worker that runs, and what it stands on.
pub struct Running {
    pub handle: Handle,
    pub agent: Arc<Agent>,
    pub runtime: Arc<Recording>,
    pub shutdown: Shutdown,
    pub task: tokio::task::JoinHandle<()>,
    _root: tempfile::TempDir,
}

/// A pod of the API with containers like `{"name": "c", "image": "i:1"}`.
pub fn pod(spec: serde_json::Value) -> Pod {
    let metadata = serde_json::json!({"name": "p", "namespace": "n", "uid": "unit-test-pod", "generation": 1});
    serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec})).unwrap()
}

impl Running {
    /// Starts a worker; `prepare` may say how the runtime behaves.
    pub fn start(pod: Pod, prepare: impl FnOnce(&Recording)) -> Self {
        Self::start_with(Input { pod: Arc::new(pod), removed: false, failure: None, grace: None }, prepare)
    }

    pub fn start_with(input: Input, prepare: impl FnOnce(&Recording)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (agent, runtime) = agent(root.path());
        prepare(&runtime);
        let shutdown = Shutdown::new();
        let (worker, handle) = Worker::new(Arc::clone(&agent), input, shutdown.clone());
        let task = tokio::spawn(worker.run());
        Self { handle, agent, runtime, shutdown, task, _root: root }
    }

    /// Waits until what the worker tells is so.
    pub async fn until(&self, what: impl Fn(&PodStatus, bool) -> bool) -> PodStatus {
        let mut told = self.handle.statuses.clone();
        let told = told.wait_for(|told| what(&told.status, told.done)).await.unwrap();
        told.status.clone()
    }

    /// The pod's object is deleted with that grace period.
    pub fn delete(&self, grace: i64) {
        self.handle.input.send_modify(|input| {
            let mut pod = Pod::clone(&input.pod);
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            pod.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(START.parse().unwrap()));
            input.pod = Arc::new(pod);
        });
    }
}
