//! The real runtime: CRI over a unix socket. The connection is made on use and again after containerd restarts.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use hyper_util::rt::TokioIo;
use proto::cri as api;
use proto::cri::image_service_client::ImageServiceClient;
use proto::cri::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{Error, ExecOutcome, Listing, Runtime, containerd_events, labels};

/// Largest message: a node's whole listing fits many times.
const MAX_MESSAGE: usize = 16 << 20;
/// Time that the runtime gets beyond what the call itself takes.
const MARGIN: Duration = Duration::from_secs(120);

/// A client of one runtime endpoint.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
    timeout: Duration,
}

impl Cri {
    /// For endpoints like `unix:///run/containerd/containerd.sock`. Must be called within a tokio runtime.
    pub fn new(endpoint: &str, image_endpoint: Option<&str>, timeout: Duration) -> Result<Self, Error> {
        let channel = connect(endpoint)?;
        let images = match image_endpoint {
            Some(other) if other != endpoint => connect(other)?,
            _ => channel.clone(),
        };
        Ok(Self {
            channel: channel.clone(),
            runtime: RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(images).max_decoding_message_size(MAX_MESSAGE),
            timeout,
        })
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(|status| Error::Call(Box::new(status))),
            Err(_) => Err(Error::Call(Box::new(tonic::Status::deadline_exceeded(format!(
                "the container runtime did not answer within {limit:?}"
            ))))),
        }
    }
}

fn connect(endpoint: &str) -> Result<Channel, Error> {
    let path = endpoint.strip_prefix("unix://").or_else(|| endpoint.starts_with('/').then_some(endpoint));
    let path =
        path.filter(|path| path.starts_with('/')).ok_or_else(|| Error::Endpoint(endpoint.to_owned()))?.to_owned();
    // The authority is never resolved: the connector opens the socket.
    let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }));
    Ok(channel)
}

fn gone_is_done(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn spec(image: &str) -> Option<api::ImageSpec> {
    Some(api::ImageSpec { image: image.to_owned(), ..Default::default() })
}

#[async_trait]
impl Runtime for Cri {
    async fn version(&self) -> Result<api::VersionResponse, Error> {
        let request = api::VersionRequest { version: "v1".into() };
        self.call(self.timeout, self.runtime.clone().version(request)).await
    }

    async fn status(&self) -> Result<api::StatusResponse, Error> {
        self.call(self.timeout, self.runtime.clone().status(api::StatusRequest { verbose: false })).await
    }

    async fn sandbox_image(&self) -> Result<Option<String>, Error> {
        let request = api::StatusRequest { verbose: true };
        let info = self.call(self.timeout, self.runtime.clone().status(request)).await?.info;
        // Containerd tells its configuration.
        let config = info.get("config").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        Ok(config.and_then(|config| config["sandboxImage"].as_str().map(str::to_owned)))
    }

    async fn set_pod_cidr(&self, cidr: &str) -> Result<(), Error> {
        let network = api::NetworkConfig { pod_cidr: cidr.to_owned() };
        let runtime_config = Some(api::RuntimeConfig { network_config: Some(network) });
        let request = api::UpdateRuntimeConfigRequest { runtime_config };
        self.call(self.timeout, self.runtime.clone().update_runtime_config(request)).await.map(drop)
    }

    async fn list(&self, pod_uid: Option<&str>) -> Result<Listing, Error> {
        let selector = || pod_uid.map(|uid| (labels::POD_UID.to_owned(), uid.to_owned())).into_iter().collect();
        let sandboxes = api::ListPodSandboxRequest {
            filter: Some(api::PodSandboxFilter { label_selector: selector(), ..Default::default() }),
        };
        let containers = api::ListContainersRequest {
            filter: Some(api::ContainerFilter { label_selector: selector(), ..Default::default() }),
        };
        // Containers first: a container without its sandbox would look like one of a pod that is gone.
        let mut client = self.runtime.clone();
        let containers = self.call(self.timeout, client.list_containers(containers)).await?.containers;
        let sandboxes = self.call(self.timeout, client.list_pod_sandbox(sandboxes)).await?.items;
        Ok(Listing { sandboxes, containers })
    }

    async fn run_sandbox(&self, config: &api::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        let request = api::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        let answer = self.call(self.timeout * 2, self.runtime.clone().run_pod_sandbox(request)).await?;
        Ok(answer.pod_sandbox_id)
    }

    async fn sandbox_status(&self, id: &str) -> Result<api::PodSandboxStatus, Error> {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.call(self.timeout, self.runtime.clone().pod_sandbox_status(request)).await?;
        answer.status.ok_or(Error::Missing("sandbox status"))
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_done(self.call(self.timeout, self.runtime.clone().stop_pod_sandbox(request)).await.map(drop))
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_done(self.call(self.timeout, self.runtime.clone().remove_pod_sandbox(request)).await.map(drop))
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: api::ContainerConfig,
        sandbox_config: &api::PodSandboxConfig,
    ) -> Result<String, Error> {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        Ok(self.call(self.timeout, self.runtime.clone().create_container(request)).await?.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = api::StartContainerRequest { container_id: id.to_owned() };
        self.call(self.timeout, self.runtime.clone().start_container(request)).await.map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = api::StopContainerRequest { container_id: id.to_owned(), timeout };
        let limit = grace.saturating_add(MARGIN);
        gone_is_done(self.call(limit, self.runtime.clone().stop_container(request)).await.map(drop))
    }

    async fn update_resources(&self, id: &str, resources: api::LinuxContainerResources) -> Result<(), Error> {
        let request = api::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        self.call(self.timeout, self.runtime.clone().update_container_resources(request)).await.map(drop)
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = api::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_done(self.call(self.timeout, self.runtime.clone().remove_container(request)).await.map(drop))
    }

    async fn container_status(&self, id: &str) -> Result<api::ContainerStatus, Error> {
        let request = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.call(self.timeout, self.runtime.clone().container_status(request)).await?;
        answer.status.ok_or(Error::Missing("container status"))
    }

    async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let request = api::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.call(self.timeout, self.runtime.clone().reopen_container_log(request)).await.map(drop)
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutcome, Error> {
        let request = api::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        let limit = timeout.saturating_add(MARGIN);
        let answer = self.call(limit, self.runtime.clone().exec_sync(request)).await?;
        let mut output = answer.stdout;
        output.extend_from_slice(&answer.stderr);
        Ok(ExecOutcome { exit_code: answer.exit_code, output })
    }

    async fn exec(&self, request: api::ExecRequest) -> Result<String, Error> {
        Ok(self.call(self.timeout, self.runtime.clone().exec(request)).await?.url)
    }

    async fn attach(&self, request: api::AttachRequest) -> Result<String, Error> {
        Ok(self.call(self.timeout, self.runtime.clone().attach(request)).await?.url)
    }

    async fn port_forward(&self, request: api::PortForwardRequest) -> Result<String, Error> {
        Ok(self.call(self.timeout, self.runtime.clone().port_forward(request)).await?.url)
    }

    async fn image(&self, image: &str) -> Result<Option<api::Image>, Error> {
        let request = api::ImageStatusRequest { image: spec(image), verbose: false };
        Ok(self.call(self.timeout, self.images.clone().image_status(request)).await?.image)
    }

    async fn images(&self) -> Result<Vec<api::Image>, Error> {
        let request = api::ListImagesRequest { filter: None };
        Ok(self.call(self.timeout, self.images.clone().list_images(request)).await?.images)
    }

    async fn pull(
        &self,
        image: &str,
        auth: Option<api::AuthConfig>,
        sandbox: &api::PodSandboxConfig,
    ) -> Result<String, Error> {
        let request = api::PullImageRequest { image: spec(image), auth, sandbox_config: Some(sandbox.clone()) };
        // A pull takes as long as it makes progress; the runtime ends one that does not.
        let answer = self.images.clone().pull_image(request).await;
        answer.map(|answer| answer.into_inner().image_ref).map_err(|status| Error::Call(Box::new(status)))
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let request = api::RemoveImageRequest { image: spec(image) };
        gone_is_done(self.call(self.timeout, self.images.clone().remove_image(request)).await.map(drop))
    }

    async fn image_filesystem(&self) -> Result<Option<api::FilesystemUsage>, Error> {
        let answer = self.call(self.timeout, self.images.clone().image_fs_info(api::ImageFsInfoRequest {})).await?;
        Ok(answer.image_filesystems.into_iter().next())
    }

    async fn stats(&self) -> Result<Vec<api::ContainerStats>, Error> {
        let request = api::ListContainerStatsRequest { filter: None };
        Ok(self.call(self.timeout, self.runtime.clone().list_container_stats(request)).await?.stats)
    }

    async fn ends(&self) -> Result<BoxStream<'static, String>, Error> {
        let request = api::GetEventsRequest {};
        // Without a limit: the answer may come with the first event.
        match self.runtime.clone().get_container_events(request).await {
            Ok(events) => {
                let told = events.into_inner().take_while(|event| std::future::ready(event.is_ok()));
                Ok(told.filter_map(|event| std::future::ready(event.ok().and_then(ended))).boxed())
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                containerd_events::exits(self.channel.clone()).await
            }
            Err(status) => Err(Error::Call(Box::new(status))),
        }
    }
}

fn ended(event: api::ContainerEventResponse) -> Option<String> {
    use api::ContainerEventType::{ContainerDeletedEvent, ContainerStoppedEvent};
    matches!(event.container_event_type(), ContainerStoppedEvent | ContainerDeletedEvent).then_some(event.container_id)
}
