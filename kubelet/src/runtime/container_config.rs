//! The CRI configuration of a container. Pure: everything that has to be fetched or made comes as an argument.

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use proto::cri as api;

use super::{labels, sandbox_config};
use crate::env::expand;
use crate::pod::{self, Kind, qos};
use crate::quantity;

const CPU_PERIOD: i64 = 100_000;
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Why a container's configuration is refused; shown as CreateContainerConfigError.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("container's runAsUser breaks non-root policy")]
    RootUser,
    #[error("container has runAsNonRoot and image will run as root")]
    RootImage,
    #[error("container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root")]
    NamedUser(String),
}

/// What the node has to do with the limits of all its containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Bytes.
    pub memory: i64,
    /// Whether cpu limits are enforced.
    pub cpu_quota: bool,
    /// Files of cgroup v2 and what they hold in every container's cgroup.
    pub cgroup_files: &'static [(&'static str, &'static str)],
}

/// What has been fetched and made for the container.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub attempt: u32,
    pub image: &'a api::Image,
    pub environment: &'a [(String, String)],
    pub mounts: Vec<api::Mount>,
    pub node: &'a Node,
    pub root: &'a Path,
    pub seccomp_default: bool,
    /// The container whose process namespace an ephemeral one shares.
    pub target_id: Option<String>,
}

/// The container's configuration.
pub fn build(pod: &Pod, kind: Kind, container: &Container, parts: Parts<'_>) -> Result<api::ContainerConfig, Error> {
    non_root(pod, container, parts.image)?;
    let value = |name: &str| parts.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let expanded = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, value)).collect();
    Ok(api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: container.name.clone(), attempt: parts.attempt }),
        image: Some(api::ImageSpec {
            image: parts.image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: parts
            .environment
            .iter()
            .map(|(key, value)| api::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        labels: label_map(pod, container),
        annotations: annotations(pod, container, parts.attempt),
        log_path: format!("{}/{}.log", container.name, parts.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(api::LinuxContainerConfig {
            resources: Some(resources(pod, container, parts.node)),
            security_context: Some(security(pod, kind, container, &parts)),
        }),
        mounts: parts.mounts,
        ..Default::default()
    })
}

fn label_map(pod: &Pod, container: &Container) -> HashMap<String, String> {
    [
        (labels::POD_NAME, pod::name(pod)),
        (labels::POD_NAMESPACE, pod::namespace(pod)),
        (labels::POD_UID, pod::uid(pod)),
        (labels::CONTAINER_NAME, container.name.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Where the container may leave its last words.
pub fn termination_message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().unwrap_or("/dev/termination-log")
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let mut map: HashMap<String, String> = [
        (labels::CONTAINER_HASH, pod::container_hash(container)),
        (labels::RESTART_COUNT, attempt.to_string()),
        (labels::TERMINATION_MESSAGE_PATH, termination_message_path(container).to_owned()),
        (
            labels::TERMINATION_MESSAGE_POLICY,
            container.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
        ),
        (labels::POD_GRACE, pod::spec(pod).termination_grace_period_seconds.unwrap_or(30).to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty()) {
        map.insert(labels::PORTS.into(), serde_json::json!(ports).to_string());
    }
    map
}

/// Limits and weights of the container.
pub fn resources(pod: &Pod, container: &Container, node: &Node) -> api::LinuxContainerResources {
    let millis = |quantity| quantity::millis(quantity).unwrap_or(0);
    let cpu_request = qos::request(container, "cpu").map_or(0, millis);
    let cpu_limit = qos::limit(container, "cpu").map_or(0, millis);
    let quota = if node.cpu_quota { qos::quota(cpu_limit, CPU_PERIOD) } else { 0 };
    api::LinuxContainerResources {
        cpu_shares: qos::shares(cpu_request),
        cpu_quota: quota,
        cpu_period: if node.cpu_quota { CPU_PERIOD } else { 0 },
        memory_limit_in_bytes: qos::limit(container, "memory").and_then(quantity::value).unwrap_or(0),
        oom_score_adj: qos::oom_score_adj(pod, container, node.memory),
        unified: node.cgroup_files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect(),
        ..Default::default()
    }
}

/// The user that runs the container: of the container, else of the pod.
pub fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|context| context.run_as_user);
    container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
}

fn non_root(pod: &Pod, container: &Container, image: &api::Image) -> Result<(), Error> {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|context| context.run_as_non_root);
    let demanded = container.security_context.as_ref().and_then(|context| context.run_as_non_root).or(of_pod);
    if demanded != Some(true) {
        return Ok(());
    }
    match run_as_user(pod, container) {
        Some(0) => Err(Error::RootUser),
        Some(_) => Ok(()),
        None if !image.username.is_empty() => Err(Error::NamedUser(image.username.clone())),
        None if image.uid.as_ref().is_none_or(|uid| uid.value == 0) => Err(Error::RootImage),
        None => Ok(()),
    }
}

fn security(pod: &Pod, kind: Kind, container: &Container, parts: &Parts<'_>) -> api::LinuxContainerSecurityContext {
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    let mut namespaces = sandbox_config::namespaces(pod);
    if let Some(target) = parts.target_id.as_ref().filter(|_| kind == Kind::Ephemeral) {
        namespaces.pid = api::NamespaceMode::Target.into();
        namespaces.target_id.clone_from(target);
    }
    // An image that names its user by number or name keeps it unless the pod says otherwise.
    let image_user = parts.image.uid.as_ref().map(|uid| uid.value).filter(|uid| *uid != 0);
    let mut seccomp =
        sandbox_config::seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), parts.root);
    if parts.seccomp_default && own.seccomp_profile.is_none() && of_pod.seccomp_profile.is_none() {
        seccomp.profile_type = api::security_profile::ProfileType::RuntimeDefault.into();
    }
    let masked = !privileged && own.proc_mount.as_deref() != Some("Unmasked");
    let paths =
        |paths: &[&str]| if masked { paths.iter().map(|path| (*path).to_owned()).collect() } else { Vec::new() };
    api::LinuxContainerSecurityContext {
        capabilities: own.capabilities.map(|capabilities| api::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces),
        run_as_user: user.or(image_user).map(|value| api::Int64Value { value }),
        run_as_username: if user.is_none() { parts.image.username.clone() } else { String::new() },
        run_as_group: group.map(|value| api::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: sandbox_config::supplemental_groups(pod),
        selinux_options: sandbox_config::selinux(own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref())),
        apparmor: own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()).map(sandbox_config::apparmor),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        seccomp: Some(seccomp),
        masked_paths: paths(MASKED_PATHS),
        readonly_paths: paths(READONLY_PATHS),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(
        pod_context: serde_json::Value,
        container: serde_json::Value,
        image: api::Image,
    ) -> Result<api::ContainerConfig, Error> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_context, "containers": [container]},
        }))
        .unwrap();
        let environment = [("A".to_owned(), "1".to_owned())];
        let parts = Parts {
            attempt: 3,
            image: &image,
            environment: &environment,
            mounts: vec![],
            node: &Node { memory: 1 << 30, cpu_quota: true, cgroup_files: &[("memory.oom.group", "1")] },
            root: Path::new("/r"),
            seccomp_default: false,
            target_id: None,
        };
        build(&pod, Kind::Regular, &pod::spec(&pod).containers[0], parts)
    }

    #[test]
    fn command_and_metadata() {
        let container = json!({"name": "c", "image": "i", "command": ["$(A)", "$$(A)"], "args": ["$(B)"], "tty": true});
        let config = config(json!({}), container, api::Image { id: "sha".into(), ..Default::default() }).unwrap();
        assert_eq!((config.command, config.args), (vec!["1".to_owned(), "$(A)".into()], vec!["$(B)".to_owned()]));
        assert_eq!((config.log_path.as_str(), config.tty), ("c/3.log", true));
        assert_eq!(config.annotations[labels::RESTART_COUNT], "3");
        assert_eq!(config.labels[labels::CONTAINER_NAME], "c");
        assert_eq!(config.image.unwrap().image, "sha");
        assert_eq!(config.linux.unwrap().resources.unwrap().unified["memory.oom.group"], "1");
    }

    #[test]
    fn security_contexts_of_container_and_pod_are_laid_over_one_another() {
        let container = json!({"name": "c", "securityContext": {"runAsUser": 7, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false}});
        let context = json!({"runAsUser": 5, "runAsGroup": 6, "fsGroup": 9, "supplementalGroups": [8], "seccompProfile": {"type": "RuntimeDefault"}});
        let config = config(context, container, api::Image::default()).unwrap();
        let security = config.linux.unwrap().security_context.unwrap();
        assert_eq!((security.run_as_user.unwrap().value, security.run_as_group.unwrap().value), (7, 6));
        assert_eq!((security.supplemental_groups, security.no_new_privs), (vec![8, 9], true));
        assert_eq!(security.capabilities.unwrap().drop_capabilities, ["ALL"]);
        assert!(security.masked_paths.contains(&"/proc/kcore".to_owned()));
    }

    #[test]
    fn profiles_of_the_container_come_before_those_of_the_pod() {
        use api::security_profile::ProfileType;
        let container = json!({"name": "c", "securityContext": {
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
            "appArmorProfile": {"type": "Localhost", "localhostProfile": "web"},
            "seLinuxOptions": {"level": "s0:c1"},
        }});
        let context = json!({
            "seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "RuntimeDefault"},
            "seLinuxOptions": {"user": "u", "type": "t"},
        });
        let own =
            config(context.clone(), container, api::Image::default()).unwrap().linux.unwrap().security_context.unwrap();
        let (seccomp, apparmor) = (own.seccomp.unwrap(), own.apparmor.unwrap());
        assert_eq!(
            (seccomp.profile_type(), seccomp.localhost_ref.as_str()),
            (ProfileType::Localhost, "/r/seccomp/p.json")
        );
        assert_eq!((apparmor.profile_type(), apparmor.localhost_ref.as_str()), (ProfileType::Localhost, "web"));
        assert_eq!(own.selinux_options.unwrap().level, "s0:c1");
        let pods = config(context, json!({"name": "c"}), api::Image::default())
            .unwrap()
            .linux
            .unwrap()
            .security_context
            .unwrap();
        assert_eq!(pods.seccomp.unwrap().profile_type(), ProfileType::Unconfined);
        assert_eq!(pods.apparmor.unwrap().profile_type(), ProfileType::RuntimeDefault);
        assert_eq!(pods.selinux_options.unwrap().r#type, "t");
    }

    #[test]
    fn non_root_is_checked_before_the_container_exists() {
        let image = |uid: Option<i64>, username: &str| api::Image {
            uid: uid.map(|value| api::Int64Value { value }),
            username: username.into(),
            ..Default::default()
        };
        let context = json!({"runAsNonRoot": true});
        for (user, image, expected) in [
            (None, image(None, ""), Some(Error::RootImage)),
            (None, image(Some(0), ""), Some(Error::RootImage)),
            (None, image(Some(5), ""), None),
            (None, image(None, "web"), Some(Error::NamedUser("web".into()))),
            (Some(0), image(Some(5), ""), Some(Error::RootUser)),
            (Some(1), image(None, ""), None),
        ] {
            let container = json!({"name": "c", "securityContext": {"runAsUser": user}});
            assert_eq!(config(context.clone(), container, image).err(), expected);
        }
    }
}
