//! The kubelet as a whole: reads its configuration, learns about the machine and the runtime, and starts every part.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use component_base::events::Recorder;
use component_base::informer::{Informers, Selector};
use component_base::shutdown::{Shutdown, Tasks};
use component_base::{client, version};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::{Mutex, watch};

use crate::agent::Agent;
use crate::clock::Clock;
use crate::images::Images;
use crate::images::collect::Collector;
use crate::node::{self, facts};
use crate::objects::Objects;
use crate::options::Options;
use crate::places::Places;
use crate::pods::Pods;
use crate::runtime::cri::Cri;
use crate::runtime::relist::{self, Health};
use crate::runtime::sandbox_config::Resolver;
use crate::runtime::{self, Runtime, container_config};
use crate::{certificates, cgroups, config, eviction, housekeeping, open_files, server, sources};

/// How long the parts may take to end.
const DRAIN: Duration = Duration::from_secs(5);
const RUNTIME_RETRY: Duration = Duration::from_millis(200);

/// Why the kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Machine(#[from] facts::Error),
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroups::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    StaticPodUrl(#[from] sources::http::Error),
    #[error(transparent)]
    Certificate(#[from] certificates::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error("cannot create {path}")]
    Directory {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// Runs until shutdown.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let config = options.configuration()?;
    facts::check_swap(&config)?;
    facts::check_kernel(&config)?;
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", config.oom_score_adj.to_string()) {
        tracing::warn!(%error, wanted = config.oom_score_adj, "the kubelet is not protected when memory runs out");
    }
    // Negative numbers were refused with the configuration.
    open_files::limit(config.max_open_files.unsigned_abs());
    for path in [&options.root_dir, &options.pod_logs_dir] {
        let failed = |source| Error::Directory { path: path.display().to_string(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
    }
    let runtime: Arc<dyn Runtime> = Arc::new(Cri::new(
        &config.container_runtime_endpoint,
        config.image_service_endpoint.as_deref(),
        config.runtime_request_timeout.0,
    )?);
    let Some(version) = until_told(async || runtime.version().await, &shutdown).await else { return Ok(()) };
    let node_name = facts::name(options.hostname_override.as_deref())?;
    let client = match &options.kubeconfig {
        Some(path) => {
            let bootstrap = options.bootstrap_kubeconfig.as_deref();
            if !certificates::bootstrap(path, bootstrap, &options.cert_dir, &node_name, &shutdown).await? {
                return Ok(());
            }
            let api = client::config(Some(path), None).await?;
            Some(client::from_config_with(api, &version::user_agent("kubelet"), &limits(&config))?)
        }
        None => None,
    };
    let about = Start {
        machine: facts::machine(&options.root_dir)?,
        runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
        cert_dir: options.cert_dir.clone(),
        bootstrap: options.bootstrap_kubeconfig.clone(),
    };
    let sandbox_image = match options.pod_infra_container_image.clone() {
        Some(image) => Some(image),
        None => match until_told(async || runtime.sandbox_image().await, &shutdown).await {
            Some(told) => told,
            None => return Ok(()),
        },
    };
    let mut agent = agent(&options, config, runtime, version, client, &shutdown)?;
    agent.sandbox_image = sandbox_image;
    let agent = Arc::new(agent);
    if agent.config.cgroups_per_qos {
        let limited = agent.config.limits_pods();
        let limits = if limited { facts::limits_of_pods(&about.machine, &agent.config) } else { Default::default() };
        agent.cgroups.prepare(limits)?;
    }
    start(agent, about, shutdown).await
}

/// As many requests as the configuration allows, if it says so.
fn limits(config: &config::KubeletConfiguration) -> client::Limits {
    let default = client::Limits::default();
    client::Limits {
        kube_api_qps: config.kube_api_qps.unwrap_or(default.kube_api_qps),
        kube_api_burst: config.kube_api_burst.unwrap_or(default.kube_api_burst),
    }
}

/// Asks the runtime until it answers: it may start after the kubelet. `None` on shutdown.
async fn until_told<T>(question: impl AsyncFn() -> Result<T, runtime::Error>, shutdown: &Shutdown) -> Option<T> {
    let mut told = false;
    loop {
        match question().await {
            Ok(answer) => return Some(answer),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "the container runtime does not answer yet");
            }
            Err(error) => tracing::debug!(%error, "the container runtime does not answer yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(RUNTIME_RETRY) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

fn agent(
    options: &Options,
    config: config::KubeletConfiguration,
    runtime: Arc<dyn Runtime>,
    version: proto::cri::VersionResponse,
    client: Option<kube::Client>,
    shutdown: &Shutdown,
) -> Result<Agent, Error> {
    let node_name = facts::name(options.hostname_override.as_deref())?;
    let machine = facts::machine(&options.root_dir)?;
    let (_, allocatable) = facts::resources(&machine, &config);
    let host_ips = facts::addresses(options.node_ip.as_deref(), None)?;
    let mut labels = node::register::own_labels(&node_name);
    labels.extend(options.labels()?);
    let resolver_path = config.resolv_conf.clone().unwrap_or_else(|| "/etc/resolv.conf".into());
    let resolver = Resolver::parse(&std::fs::read_to_string(resolver_path).unwrap_or_default());
    let recorder = match &client {
        Some(client) => Recorder::limited(client.clone(), "kubelet", Some(&node_name), config.event_limiter()),
        None => Recorder::discard(),
    };
    let cgroups = cgroups::Manager::new(&config.cgroup_driver, &config.cgroup_root, config.pod_pids_limit);
    let container_limits = container_config::Node {
        memory: machine.memory,
        cpu_quota: config.cpu_cfs_quota,
        cgroup_files: cgroups.container_files(config.single_process_oom_kill.unwrap_or(false)),
    };
    let informers = client.clone().map(|client| Informers::new(client, shutdown.clone()));
    let node = informers
        .as_ref()
        .map(|informers| informers.get_with::<Node>(Selector::fields(format!("metadata.name={node_name}"))));
    let api_pods = informers.as_ref().map(|informers| {
        informers.prune::<Pod>(|pod| pod.metadata.managed_fields = None);
        informers.get_with::<Pod>(Selector::fields(format!("spec.nodeName={node_name}")))
    });
    Ok(Agent {
        root: options.root_dir.clone(),
        logs: options.pod_logs_dir.clone(),
        host_ips: ArcSwap::from_pointee(host_ips),
        allocatable,
        places: Places::default(),
        container_limits,
        resolver,
        runtime_name: version.runtime_name,
        cgroups,
        found: watch::Sender::new(None),
        images: Images::new(Arc::clone(&runtime), Clock::SYSTEM, &config),
        runtime,
        objects: Objects::new(informers.as_ref()),
        recorder,
        client,
        api_pods,
        node,
        labels,
        has_apparmor: facts::has_apparmor(),
        strict_groups: AtomicBool::new(false),
        pressures: watch::Sender::default(),
        sandbox_image: None,
        metrics: Default::default(),
        clock: Clock::SYSTEM,
        node_name,
        config,
    })
}

/// What the node tells about itself once.
struct Start {
    machine: facts::Machine,
    runtime_version: String,
    cert_dir: PathBuf,
    bootstrap: Option<PathBuf>,
}

async fn start(agent: Arc<Agent>, about: Start, shutdown: Shutdown) -> Result<(), Error> {
    let pods = Pods::new(Arc::clone(&agent), shutdown.clone());
    let mut tasks = Tasks::new();
    let health = Arc::new(Health::default());
    let cert_dir = about.cert_dir.clone();
    let mut hosts = vec![agent.node_name.clone()];
    hosts.extend(agent.host_ips.load().iter().cloned());
    let configured = (agent.config.tls_cert_file.as_deref(), agent.config.tls_private_key_file.as_deref());
    let certificate = certificates::serving(configured, &cert_dir, &hosts, agent.config.server_tls_bootstrap)?;
    for (name, serving) in server::run(pods.clone(), Arc::clone(&health), certificate, shutdown.clone()).await? {
        tasks.spawn(name, serving);
    }
    let files_ready = Arc::new(AtomicBool::new(agent.config.static_pod_path.is_none()));
    let api_ready = Arc::new(AtomicBool::new(agent.client.is_none()));
    if let Some(path) = agent.config.static_pod_path.clone() {
        let period = agent.config.file_check_frequency.0;
        tasks.spawn(
            "static pod files",
            sources::file::run(pods.clone(), path, period, Arc::clone(&files_ready), shutdown.clone()),
        );
    }
    let url_ready = Arc::new(AtomicBool::new(agent.config.static_pod_url.is_none()));
    if let Some(url) = &agent.config.static_pod_url {
        let source = sources::http::Source::new(url, &agent.config.static_pod_url_header)?;
        let period = agent.config.http_check_frequency.0;
        let following = sources::http::run(pods.clone(), source, period, Arc::clone(&url_ready), shutdown.clone());
        tasks.spawn("static pod URL", following);
    }
    if let Some(client) = agent.client.clone() {
        let node_name = agent.node_name.clone();
        if agent.config.rotate_certificates {
            let (client, bootstrap) = (client.clone(), about.bootstrap.clone());
            let rotation = certificates::rotate_client(client, bootstrap, cert_dir.clone(), node_name.clone());
            tasks.spawn("client certificate", until(shutdown.clone(), rotation));
        }
        if agent.config.server_tls_bootstrap {
            let rotation = certificates::rotate_serving(client.clone(), cert_dir, node_name, hosts);
            tasks.spawn("serving certificate", until(shutdown.clone(), rotation));
        }
        let lease = node::lease::run(Arc::clone(&agent), client.clone(), shutdown.clone());
        tasks.spawn("node lease", lease);
        let node =
            node::register::run(Arc::clone(&agent), client, about.machine, about.runtime_version, shutdown.clone());
        tasks.spawn("node status", node);
    }
    if let Some(informer) = agent.api_pods.clone() {
        let following = sources::api::run(pods.clone(), informer, Arc::clone(&api_ready), shutdown.clone());
        tasks.spawn("pods of the API", following);
    }
    let ready = move || [&files_ready, &url_ready, &api_ready].iter().all(|ready| ready.load(Ordering::Relaxed));
    let images = Arc::new(Mutex::new(Collector::default()));
    let tidying = housekeeping::run(pods.clone(), Arc::clone(&images), ready.clone(), shutdown.clone());
    tasks.spawn("housekeeping", tidying);
    // Wrong thresholds were refused with the configuration.
    let thresholds = agent.config.thresholds().unwrap_or_default();
    tasks.spawn("eviction", eviction::manager::run(pods.clone(), thresholds, images, shutdown.clone()));
    tasks.spawn("runtime listing", relist::run(pods.clone(), health, ready, shutdown.clone()));
    tracing::info!(node = agent.node_name, "the kubelet runs");
    shutdown.cancelled().await;
    let cut = tasks.drain(DRAIN).await;
    if !cut.is_empty() {
        tracing::warn!(?cut, "parts did not end in time");
    }
    Ok(())
}

async fn until(shutdown: Shutdown, work: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}
