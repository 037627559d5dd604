//! The container runtime as the kubelet sees it: what it observes, and the narrow trait it acts through.

pub mod container_config;
mod containerd_events;
pub mod cri;
pub mod labels;
pub mod relist;
pub mod sandbox_config;

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use proto::cri as api;

/// Why a call to the runtime failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.message())]
    Call(#[source] Box<tonic::Status>),
    #[error("the runtime endpoint {0:?} is not usable: expected unix:///path")]
    Endpoint(String),
    #[error("the runtime's answer has no {0}")]
    Missing(&'static str),
    /// `registryPullQPS` and `registryBurst`, in Kubernetes' words.
    #[error("pull QPS exceeded")]
    PullLimit,
}

impl Error {
    /// Whether the call was given up because it took too long.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Call(status) => {
                status.code() == tonic::Code::DeadlineExceeded || status.message().contains("context deadline exceeded")
            }
            _ => false,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call(status) if status.code() == tonic::Code::NotFound)
    }
}

/// A sandbox as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub ready: bool,
    pub created_at: Timestamp,
    pub attempt: u32,
    /// Empty until the runtime has been asked, and for host network pods.
    pub ips: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub hash: String,
    pub state: State,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    pub log_path: String,
    /// The limits in force, if the runtime tells.
    pub applied: Option<api::LinuxContainerResources>,
    /// A probe had it killed: it failed, whatever its exit code.
    pub unhealthy: bool,
}

/// What the runtime has of one pod, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

impl PodView {
    /// The sandbox in which containers may run now.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of that name in a sandbox.
    pub fn latest_in(&self, sandbox: &str, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name && container.sandbox_id == sandbox)
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| matches!(container.state, State::Running | State::Unknown))
    }

    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        self.containers.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
    }
}

/// Sandboxes and containers as one listing gives them.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub sandboxes: Vec<api::PodSandbox>,
    pub containers: Vec<api::Container>,
}

/// The outcome of a command in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecOutcome {
    pub exit_code: i32,
    pub output: Vec<u8>,
}

/// What the kubelet asks of a runtime. Stopping and removing what is gone succeeds.
#[async_trait]
pub trait Runtime: Send + Sync {
    async fn version(&self) -> Result<api::VersionResponse, Error>;
    async fn status(&self) -> Result<api::StatusResponse, Error>;
    /// The image that sandboxes run, if the runtime tells.
    async fn sandbox_image(&self) -> Result<Option<String>, Error>;
    async fn set_pod_cidr(&self, cidr: &str) -> Result<(), Error>;
    /// Everything, or one pod's.
    async fn list(&self, pod_uid: Option<&str>) -> Result<Listing, Error>;
    async fn run_sandbox(&self, config: &api::PodSandboxConfig, handler: &str) -> Result<String, Error>;
    async fn sandbox_status(&self, id: &str) -> Result<api::PodSandboxStatus, Error>;
    async fn stop_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn remove_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn create_container(
        &self,
        sandbox: &str,
        config: api::ContainerConfig,
        sandbox_config: &api::PodSandboxConfig,
    ) -> Result<String, Error>;
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error>;
    async fn update_resources(&self, id: &str, resources: api::LinuxContainerResources) -> Result<(), Error>;
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    async fn container_status(&self, id: &str) -> Result<api::ContainerStatus, Error>;
    async fn reopen_log(&self, id: &str) -> Result<(), Error>;
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutcome, Error>;
    async fn exec(&self, request: api::ExecRequest) -> Result<String, Error>;
    async fn attach(&self, request: api::AttachRequest) -> Result<String, Error>;
    async fn port_forward(&self, request: api::PortForwardRequest) -> Result<String, Error>;
    async fn image(&self, image: &str) -> Result<Option<api::Image>, Error>;
    async fn images(&self) -> Result<Vec<api::Image>, Error>;
    async fn pull(
        &self,
        image: &str,
        auth: Option<api::AuthConfig>,
        sandbox: &api::PodSandboxConfig,
    ) -> Result<String, Error>;
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    async fn image_filesystem(&self) -> Result<Option<api::FilesystemUsage>, Error>;
    async fn stats(&self) -> Result<Vec<api::ContainerStats>, Error>;
    /// The ids of containers and sandboxes that end, from now on.
    async fn ends(&self) -> Result<BoxStream<'static, String>, Error>;
}
