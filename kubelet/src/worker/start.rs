//! Starting one container: image, environment, mounts, create, start, postStart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use proto::cri as api;

use super::Worker;
use super::apply::{Error, chain};
use crate::images::{Origin, Refusal};
use crate::pod::plan::Start;
use crate::pod::status::Waiting;
use crate::pod::{self, Kind, backoff};
use crate::runtime::container_config::{self, Parts, termination_message_path};
use crate::runtime::{Container, PodView, Sandbox, State};
use crate::volumes::mounts;
use crate::{env, hosts, volumes};

/// Dead containers of a name that are kept once their successor has started.
const KEPT_DEAD: usize = 1;

/// A container that is about to be made.
struct Making<'a> {
    pod: &'a Arc<Pod>,
    kind: Kind,
    spec: &'a Spec,
    attempt: u32,
    sandbox: &'a Sandbox,
    sandbox_config: &'a api::PodSandboxConfig,
    image: &'a api::Image,
}

impl Worker {
    pub(super) async fn start(&mut self, pod: &Arc<Pod>, start: &Start) -> Result<(), Error> {
        let Some((kind, spec)) = pod::container(pod, &start.name) else { return Ok(()) };
        let Some(sandbox) = self.view.ready_sandbox().cloned() else { return Ok(()) };
        let config = self.sandbox_config(pod, sandbox.attempt);
        let image = self.image(pod, &spec, &config).await?;
        let making = Making {
            pod,
            kind,
            spec: &spec,
            attempt: start.attempt,
            sandbox: &sandbox,
            sandbox_config: &config,
            image: &image,
        };
        let id = self.create(&making).await.map_err(|waiting| self.refuse(pod, &spec, waiting))?;
        self.note_made(&making, &id);
        self.note_applied(&spec.name);
        self.agent.recorder.normal(&pod::reference(pod), "Created", format!("Container created: {}", spec.name));
        let started = self.agent.runtime.start_container(&id).await;
        match start.failed {
            Some(failed) => {
                let max = self.agent.config.crash_loop_back_off.max_container_restart_period.0;
                let entry = backoff::next(self.backoffs.get(&spec.name), failed, self.now(), max);
                self.backoffs.insert(spec.name.clone(), entry);
            }
            None => drop(self.backoffs.remove(&spec.name)),
        }
        self.refetch(&id).await?;
        self.view.sort();
        if let Err(error) = started {
            self.never_ran(&id);
            let waiting = Waiting { reason: "RunContainerError".into(), message: error.to_string() };
            return Err(self.refuse(pod, &spec, waiting));
        }
        self.waiting.remove(&spec.name);
        self.agent.recorder.normal(&pod::reference(pod), "Started", format!("Container started: {}", spec.name));
        self.remove_dead(&spec.name).await;
        self.post_start(pod, &spec, &id).await
    }

    /// The container is known from before it starts, so that its end is not missed however soon it comes.
    fn note_made(&mut self, making: &Making<'_>, id: &str) {
        self.view.containers.insert(
            0,
            Container {
                id: id.to_owned(),
                sandbox_id: making.sandbox.id.clone(),
                name: making.spec.name.clone(),
                attempt: making.attempt,
                hash: pod::container_hash(making.spec),
                state: State::Created,
                created_at: self.now(),
                started_at: None,
                finished_at: None,
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
                image: making.spec.image.clone().unwrap_or_default(),
                image_id: making.image.id.clone(),
                log_path: String::new(),
                applied: None,
                unhealthy: false,
            },
        );
        self.publish();
    }

    /// Notes why a container waits, and says so once.
    fn refuse(&mut self, pod: &Arc<Pod>, spec: &Spec, waiting: Waiting) -> Error {
        let error =
            Error::Start { name: spec.name.clone(), reason: waiting.reason.clone(), message: waiting.message.clone() };
        if self.waiting.insert(spec.name.clone(), waiting.clone()).as_ref() != Some(&waiting) {
            let reason = if waiting.reason == "ImagePullBackOff" { "BackOff" } else { "Failed" };
            let note = match waiting.reason.as_str() {
                "ImagePullBackOff" => waiting.message,
                "ErrImagePull" => {
                    format!("Failed to pull image {:?}: {}", spec.image.as_deref().unwrap_or_default(), waiting.message)
                }
                _ => format!("Error: {}", waiting.message),
            };
            self.agent.recorder.warning(&pod::reference(pod), reason, note);
        }
        error
    }

    fn never_ran(&mut self, id: &str) {
        let now = self.now();
        if let Some(container) = self.view.containers.iter_mut().find(|container| container.id == id)
            && (container.state != State::Exited || container.reason.is_empty())
        {
            container.state = State::Exited;
            container.exit_code = 128;
            container.reason = "StartError".into();
            container.finished_at = Some(now);
        }
    }

    async fn image(
        &mut self,
        pod: &Arc<Pod>,
        spec: &Spec,
        config: &api::PodSandboxConfig,
    ) -> Result<api::Image, Error> {
        let agent = Arc::clone(&self.agent);
        let mut input = self.input.clone();
        // A pull may take long: the pod's end need not wait for it.
        let ensured = tokio::select! {
            ensured = agent.images.ensure(pod, spec, config, &agent.objects) => ensured,
            _ = input.wait_for(super::Input::ends) => return Err(Error::Ending),
        };
        let name = spec.image.as_deref().unwrap_or_default();
        match ensured {
            Ok((image, origin)) => {
                let note = match origin {
                    Origin::Present => {
                        format!("Container image {name:?} already present on machine and can be accessed by the pod")
                    }
                    Origin::Pulled(took) => format!(
                        "Successfully pulled image {name:?} in {}ms. Image size: {} bytes.",
                        took.as_millis(),
                        image.size
                    ),
                };
                agent.recorder.normal(&pod::reference(pod), "Pulled", note);
                Ok(image)
            }
            Err(Refusal { waiting, until }) => {
                self.not_before = [self.not_before, until].into_iter().flatten().min();
                Err(self.refuse(pod, spec, waiting))
            }
        }
    }

    async fn create(&self, making: &Making<'_>) -> Result<String, Waiting> {
        let refused = |error: String| Waiting { reason: "CreateContainerConfigError".into(), message: error };
        let Making { pod, kind, spec, .. } = *making;
        let agent = Arc::clone(&self.agent);
        let host_ips = agent.host_ips.load_full();
        let ips = if pod::host_network(pod) { host_ips.as_slice() } else { making.sandbox.ips.as_slice() };
        // A static pod does not wait for Services: the API server may be one of them.
        if !pod::is_static(pod) {
            agent.objects.ready().await;
        }
        let environment = env::build(pod, spec, &agent.facts(ips, &host_ips), &agent.objects).await;
        let environment = environment.map_err(|error| refused(chain(&error)))?;
        let mounts = self.mounts(pod, spec, ips, &environment).map_err(|error| refused(chain(&error)))?;
        let target_id = target(pod, &spec.name).and_then(|name| running_id(&self.view, &name));
        let parts = Parts {
            attempt: making.attempt,
            image: making.image,
            environment: &environment,
            mounts,
            node: &agent.container_limits,
            root: &agent.root,
            seccomp_default: agent.config.seccomp_default,
            target_id,
        };
        let config = container_config::build(pod, kind, spec, parts).map_err(|error| refused(error.to_string()))?;
        let directory = Path::new(&making.sandbox_config.log_directory).join(&spec.name);
        std::fs::create_dir_all(&directory).map_err(|error| refused(format!("{}: {error}", directory.display())))?;
        let created = agent.runtime.create_container(&making.sandbox.id, config, making.sandbox_config).await;
        created.map_err(|error| Waiting { reason: "CreateContainerError".into(), message: error.to_string() })
    }

    /// The mounts: volumes, the hosts file and the file for last words.
    fn mounts(
        &self,
        pod: &Pod,
        spec: &Spec,
        ips: &[String],
        environment: &[(String, String)],
    ) -> Result<Vec<api::Mount>, volumes::Error> {
        let directory = volumes::pod_directory(&self.agent.root, pod::uid(pod));
        let empty = std::collections::BTreeMap::new();
        let made = self.volumes.as_ref().map_or(&empty, |volumes| volumes.made());
        let mut list = mounts::of_container(spec, made, environment, &directory)?;
        let taken = |list: &[api::Mount], path: &str| list.iter().any(|mount| mount.container_path == path);
        if !taken(&list, "/etc/hosts") {
            let path = directory.join("etc-hosts");
            let of_host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            let text = hosts::file(pod, ips, &self.agent.config.cluster_domain, &of_host);
            // Other containers of the pod have it mounted.
            if !std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
                write(&path, text.as_bytes(), 0o644)?;
            }
            list.push(mount("/etc/hosts", &path));
        }
        let message = termination_message_path(spec);
        if !message.is_empty() && !taken(&list, message) {
            let name = format!("{:08x}", rand::random::<u32>());
            let path = directory.join("containers").join(&spec.name).join(name);
            write(&path, b"", 0o666)?;
            list.push(mount(message, &path));
        }
        Ok(list)
    }

    /// Keeps the newest dead container of a name, for its log and state, and removes older ones.
    async fn remove_dead(&mut self, name: &str) {
        let dead = self.view.containers.iter().filter(|c| c.name == name && c.state == State::Exited);
        let old: Vec<String> = dead.skip(KEPT_DEAD).map(|container| container.id.clone()).collect();
        for id in old {
            match self.agent.runtime.remove_container(&id).await {
                Ok(()) => self.view.containers.retain(|container| container.id != id),
                Err(error) => tracing::warn!(id, %error, "a dead container cannot be removed"),
            }
        }
    }
}

fn target(pod: &Pod, name: &str) -> Option<String> {
    let ephemeral = pod::spec(pod).ephemeral_containers.iter().flatten().find(|container| container.name == name)?;
    ephemeral.target_container_name.clone().filter(|target| !target.is_empty())
}

fn running_id(view: &PodView, name: &str) -> Option<String> {
    view.latest(name).filter(|container| container.state == State::Running).map(|container| container.id.clone())
}

fn mount(container_path: &str, host: &Path) -> api::Mount {
    api::Mount {
        container_path: container_path.to_owned(),
        host_path: host.display().to_string(),
        ..Default::default()
    }
}

fn write(path: &PathBuf, content: &[u8], mode: u32) -> Result<(), volumes::Error> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| volumes::Error::Io { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}
