//! A pod as the kubelet looks at it: accessors with the API's defaults (pods from files are not defaulted), kinds of containers, QoS.

pub mod backoff;
pub mod condition;
pub mod plan;
pub mod qos;
pub mod references;
pub mod resize;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

const DEFAULT_GRACE: i64 = 30;

/// The four kinds of containers, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with restartPolicy Always: runs beside the others.
    Sidecar,
    /// One of `spec.containers`.
    Regular,
    /// Added to a running pod for debugging; never restarted.
    Ephemeral,
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the pod comes from a file or URL and not from the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Whether this object of the API only mirrors a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

pub fn grace_period(pod: &Pod) -> Duration {
    let told = pod.metadata.deletion_grace_period_seconds.or(spec(pod).termination_grace_period_seconds);
    Duration::from_secs(u64::try_from(told.unwrap_or(DEFAULT_GRACE)).unwrap_or(0))
}

/// Whether the pod is one that must not be evicted: static, or of a system priority.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || spec(pod).priority.is_some_and(|priority| priority >= 2_000_000_000)
}

pub fn kind_of_init(container: &Container) -> Kind {
    if container.restart_policy.as_deref() == Some("Always") { Kind::Sidecar } else { Kind::Init }
}

/// Every container of the pod with its kind; ephemeral ones in the form of a container.
pub fn containers(pod: &Pod) -> Vec<(Kind, std::borrow::Cow<'_, Container>)> {
    use std::borrow::Cow;
    let spec = spec(pod);
    let init = spec.init_containers.iter().flatten().map(|c| (kind_of_init(c), Cow::Borrowed(c)));
    let regular = spec.containers.iter().map(|c| (Kind::Regular, Cow::Borrowed(c)));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (Kind::Ephemeral, Cow::Owned(as_container(c))));
    init.chain(regular).chain(ephemeral).collect()
}

/// The container of that name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Kind, std::borrow::Cow<'a, Container>)> {
    containers(pod).into_iter().find(|(_, container)| container.name == name)
}

fn as_container(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        name: from.name,
        image: from.image,
        command: from.command,
        args: from.args,
        working_dir: from.working_dir,
        env: from.env,
        env_from: from.env_from,
        volume_mounts: from.volume_mounts,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        image_pull_policy: from.image_pull_policy,
        security_context: from.security_context,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        tty: from.tty,
        ..Default::default()
    }
}

/// Identifies what a container runs; when it changes, the container is replaced. Only what the API lets change counts, so that
/// a newer kubelet with more fields restarts nothing.
pub fn container_hash(container: &Container) -> String {
    let text = serde_json::json!({ "name": container.name, "image": container.image }).to_string();
    format!("{:x}", fnv1a(text.as_bytes()))
}

pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// `<namespace>_<name>_<uid>`: the name of the pod's log directory.
pub fn log_directory_name(pod: &Pod) -> String {
    format!("{}_{}_{}", namespace(pod), name(pod), uid(pod))
}

/// A reference for events.
pub fn reference(pod: &Arc<Pod>) -> k8s_openapi::api::core::v1::ObjectReference {
    let mut reference = component_base::events::reference(pod.as_ref());
    // Events of a static pod are about its mirror pod, whose uid in the API is another.
    if let Some(hash) = annotation(pod, CONFIG_HASH).filter(|_| is_static(pod)) {
        reference.uid = Some(hash.to_owned());
    }
    reference
}
