//! What the machine is and has, read from the kernel once.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};

use k8s_openapi::api::core::v1::NodeSystemInfo;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cgroups::Limits;
use crate::config::KubeletConfiguration;
use crate::eviction::Signal;
use crate::pod::qos;
use crate::quantity;

/// What the machine has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    pub cpus: i64,
    pub memory: i64,
    pub storage: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {0}")]
    Read(&'static str, #[source] std::io::Error),
    #[error("the host has no usable name")]
    HostName,
    #[error("no address of this node is known: give --node-ip")]
    NoAddress,
    #[error("--node-ip: {0:?} is not an IP address")]
    Address(String),
    #[error("running with swap on is not supported, please disable swap or set --fail-swap-on=false")]
    Swap,
    #[error("protectKernelDefaults: invalid kernel settings: {}", .0.join(", "))]
    Kernel(Vec<String>),
}

/// How pods expect the kernel to act when memory runs out and when it panics.
const KERNEL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// With `protectKernelDefaults` the kernel must be set as it should be. Without, it is left as it is: other software has a say in it.
pub fn check_kernel(config: &KubeletConfiguration) -> Result<(), Error> {
    let read = |path: &str| std::fs::read_to_string(format!("/proc/sys/{path}")).unwrap_or_default().trim().to_owned();
    let wrong = if config.protect_kernel_defaults { unlike(KERNEL, read) } else { Vec::new() };
    if wrong.is_empty() { Ok(()) } else { Err(Error::Kernel(wrong)) }
}

/// The settings that are not as wanted. Pure.
fn unlike<const N: usize>(wanted: [(&str, &str); N], read: impl Fn(&str) -> String) -> Vec<String> {
    let differing =
        wanted.into_iter().map(|(path, value)| (path, value, read(path))).filter(|(_, value, is)| value != is);
    differing.map(|(path, value, is)| format!("{} is {is:?}, expected {value:?}", path.replace('/', "."))).collect()
}

fn read(path: &'static str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read(path, source))
}

/// Looks at the machine. `root` is on the file system that pods use.
pub fn machine(root: &std::path::Path) -> Result<Machine, Error> {
    let memory = read("/proc/meminfo")?
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<i64>().ok())
        .unwrap_or(0);
    let cpus = std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1));
    let storage = nix::sys::statvfs::statvfs(root)
        .map_or(0, |stat| i64::try_from(stat.blocks().saturating_mul(stat.fragment_size())).unwrap_or(i64::MAX));
    Ok(Machine { cpus, memory: memory * 1024, storage })
}

/// Whether swap is in use while the configuration forbids it.
pub fn check_swap(config: &KubeletConfiguration) -> Result<(), Error> {
    if config.fail_swap_on && read("/proc/swaps")?.lines().count() > 1 { Err(Error::Swap) } else { Ok(()) }
}

/// Whether the kernel confines programs with AppArmor.
pub fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// The node's name: as told, or the host's, in lower case.
pub fn name(told: Option<&str>) -> Result<String, Error> {
    let name = match told {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname().map_err(|_| Error::HostName)?.to_string_lossy().into_owned(),
    };
    let name = name.trim().to_lowercase();
    if name.is_empty() { Err(Error::HostName) } else { Ok(name) }
}

/// The node's addresses: as told, or the one that packets to the outside (or to the API server) leave from.
pub fn addresses(told: Option<&str>, toward: Option<&str>) -> Result<Vec<String>, Error> {
    let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| Error::Address(text.to_owned()));
    let told: Vec<IpAddr> = told.iter().flat_map(|text| text.split(',')).map(parse).collect::<Result<_, _>>()?;
    let usable: Vec<String> = told.iter().filter(|ip| !ip.is_unspecified()).map(ToString::to_string).collect();
    if !usable.is_empty() {
        return Ok(usable);
    }
    // Connecting a datagram socket sends nothing: it only asks the routing table.
    let route = |target: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(target).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let found = route("192.0.2.1:9").filter(|ip| !ip.is_loopback()).or_else(|| toward.and_then(route));
    Ok(vec![found.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_string()])
}

/// Capacity and allocatable. Pure.
pub fn resources(
    machine: &Machine,
    config: &KubeletConfiguration,
) -> (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) {
    let list = |cpu_millis: i64, memory: i64, storage: i64| {
        let cpu = if cpu_millis % 1000 == 0 { (cpu_millis / 1000).to_string() } else { format!("{cpu_millis}m") };
        [
            ("cpu", cpu),
            ("memory", format!("{}Ki", memory / 1024)),
            ("ephemeral-storage", format!("{}Ki", storage / 1024)),
            ("hugepages-1Gi", "0".to_owned()),
            ("hugepages-2Mi", "0".to_owned()),
            ("pods", config.max_pods.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Quantity(value)))
        .collect()
    };
    let reserved = |resource: &str, of: Measure| reserved(config, resource, of);
    let hard = config.hard_thresholds();
    let kept = |signal: Signal, whole: i64| {
        hard.iter().find(|threshold| threshold.signal == signal).map_or(0, |threshold| threshold.amount.of(whole))
    };
    let cpu = machine.cpus * 1000 - reserved("cpu", quantity::millis);
    let memory = machine.memory - reserved("memory", quantity::value) - kept(Signal::MemoryAvailable, machine.memory);
    let storage = machine.storage
        - reserved("ephemeral-storage", quantity::value)
        - kept(Signal::NodefsAvailable, machine.storage);
    (list(machine.cpus * 1000, machine.memory, machine.storage), list(cpu.max(0), memory.max(0), storage.max(0)))
}

type Measure = fn(&Quantity) -> Option<i64>;

fn reserved(config: &KubeletConfiguration, resource: &str, of: Measure) -> i64 {
    let lists = [&config.system_reserved, &config.kube_reserved];
    lists.iter().filter_map(|list| of(&Quantity(list.get(resource)?.clone()))).sum()
}

/// What all pods together may use: all that is not reserved. Eviction begins before that is reached. Pure.
pub fn limits_of_pods(machine: &Machine, config: &KubeletConfiguration) -> Limits {
    let cpu = machine.cpus * 1000 - reserved(config, "cpu", quantity::millis);
    let memory = machine.memory - reserved(config, "memory", quantity::value);
    Limits { shares: Some(qos::shares(cpu)), memory: Some(memory.max(0)), ..Default::default() }
}

/// `status.nodeInfo`.
pub fn system_info(runtime: &str) -> NodeSystemInfo {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os_release = text("/etc/os-release");
    let os = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    let version = component_base::version::GIT_VERSION.to_owned();
    NodeSystemInfo {
        architecture: component_base::version::go_arch().to_owned(),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime.to_owned(),
        kernel_version: text("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: version,
        machine_id: text("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image: os.to_owned(),
        system_uuid: text("/sys/class/dmi/id/product_uuid"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_kernel_are_compared() {
        let wanted = [("vm/a", "1"), ("vm/b", "0")];
        assert!(unlike(wanted, |path| if path == "vm/a" { "1".into() } else { "0".into() }).is_empty());
        assert_eq!(unlike(wanted, |_| "1".into()), ["vm.b is \"1\", expected \"0\""]);
        assert!(check_kernel(&KubeletConfiguration::default()).is_ok());
    }

    #[test]
    fn allocatable_is_capacity_without_what_is_reserved() {
        let machine = Machine { cpus: 2, memory: 8 << 30, storage: 100 << 30 };
        let config = KubeletConfiguration {
            system_reserved: [("cpu".to_owned(), "500m".to_owned()), ("memory".to_owned(), "1Gi".to_owned())].into(),
            eviction_hard: Some([("memory.available".to_owned(), "1Gi".to_owned())].into()),
            ..Default::default()
        };
        let (capacity, allocatable) = resources(&machine, &config);
        assert_eq!((capacity["cpu"].0.as_str(), allocatable["cpu"].0.as_str()), ("2", "1500m"));
        assert_eq!((capacity["memory"].0.as_str(), allocatable["memory"].0.as_str()), ("8388608Ki", "6291456Ki"));
        assert_eq!(capacity["pods"].0, "110");
        let whole = limits_of_pods(&machine, &config);
        assert_eq!((whole.shares, whole.memory.unwrap() >> 20), (Some(1536), 7 << 10));
        assert_eq!(
            allocatable["ephemeral-storage"].0, "104857600Ki",
            "one threshold that is set switches off the others"
        );
    }
}
