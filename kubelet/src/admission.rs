//! Whether the node takes a pod that the scheduler gave it: the scheduler may have known an older node. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apimachinery::labels::{Operator, Requirement};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::eviction::Pressure;
use crate::pod::status::Failure;
use crate::pod::{self, Kind, qos};
use crate::quantity;

/// Kernel parameters of a pod's own namespaces, which it may always set.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// How the node controller marks nodes that are short of memory.
const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// The node as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub taints: &'a [Taint],
    pub allocatable: &'a BTreeMap<String, Quantity>,
    /// Names of unsafe kernel parameters that are allowed here; `*` at the end stands for anything.
    pub allowed_sysctls: &'a [String],
    pub has_apparmor: bool,
    pub strict_groups: bool,
    pub pressures: &'a BTreeSet<Pressure>,
}

/// Why the pod is refused, if it is. `others` are the pods that the node has taken and that are not over.
pub fn refusal(pod: &Pod, others: &[Arc<Pod>], node: Node<'_>) -> Option<Failure> {
    let (reason, message) = pressure(pod, node)
        .or_else(|| os(pod))
        .or_else(|| sysctls(pod, node))
        .or_else(|| apparmor(pod, node))
        .or_else(|| groups(pod, node))
        .or_else(|| resources(pod, others, node))
        .or_else(|| affinity(pod, node))
        .or_else(|| ports(pod, others))
        .or_else(|| taints(pod, node))?;
    Some(Failure::new(reason, format!("Pod was rejected: {message}")))
}

type Reason = (String, String);

fn predicate(name: &str, message: &str) -> Option<Reason> {
    Some((name.to_owned(), format!("Predicate {name} failed: {message}")))
}

/// A node that is short of something takes critical pods only; one that is short of memory also those that say what they need of it.
fn pressure(pod: &Pod, node: Node<'_>) -> Option<Reason> {
    if node.pressures.is_empty() || pod::is_critical(pod) {
        return None;
    }
    let memory_only = node.pressures.iter().all(|pressure| *pressure == Pressure::Memory);
    let taint = Taint { key: MEMORY_TAINT.into(), effect: "NoSchedule".into(), ..Default::default() };
    let tolerated = || pod::spec(pod).tolerations.iter().flatten().any(|toleration| tolerates(toleration, &taint));
    if memory_only && (qos::class(pod) != qos::Class::BestEffort || tolerated()) {
        return None;
    }
    let names: Vec<&str> = node.pressures.iter().map(|pressure| pressure.condition()).collect();
    Some(("Evicted".into(), format!("The node had condition: [{}]. ", names.join(" "))))
}

fn os(pod: &Pod) -> Option<Reason> {
    let os = pod::spec(pod).os.as_ref().filter(|os| os.name != "linux")?;
    Some((
        "PodOSNotSupported".into(),
        format!("Failed to admit pod as the OS field doesn't match node OS: {} is not linux", os.name),
    ))
}

fn sysctls(pod: &Pod, node: Node<'_>) -> Option<Reason> {
    let spec = pod::spec(pod);
    let allowed = |name: &str| {
        node.allowed_sysctls.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    };
    for sysctl in spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten()) {
        let name = sysctl.name.replace('/', ".");
        let of_host = match () {
            () if name.starts_with("net.") => pod::host_network(pod),
            () if name.starts_with("kernel.shm")
                || name.starts_with("kernel.msg")
                || name.starts_with("fs.mqueue.") =>
            {
                spec.host_ipc == Some(true)
            }
            () => false,
        };
        let wrong = match () {
            () if of_host => "not allowed with the host's namespace",
            () if !SAFE_SYSCTLS.contains(&name.as_str()) && !allowed(&name) => "not allowlisted",
            () => continue,
        };
        return Some(("SysctlForbidden".into(), format!("forbidden sysctl: {name:?} {wrong}")));
    }
    None
}

fn apparmor(pod: &Pod, node: Node<'_>) -> Option<Reason> {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let containers = pod::containers(pod);
    let own = containers.iter().filter_map(|(_, c)| c.security_context.as_ref()?.app_armor_profile.as_ref());
    let demanded = own.chain(of_pod).any(|profile| profile.type_ != "Unconfined");
    (demanded && !node.has_apparmor)
        .then(|| ("AppArmor".into(), "Cannot enforce AppArmor: AppArmor is not enabled on the host".into()))
}

fn groups(pod: &Pod, node: Node<'_>) -> Option<Reason> {
    let policy = pod::spec(pod).security_context.as_ref()?.supplemental_groups_policy.as_deref()?;
    (policy == "Strict" && !node.strict_groups).then(|| {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        ("SupplementalGroupsPolicyNotSupported".into(), message.into())
    })
}

/// What the pod asks of a resource: thousandths of processors, else units.
fn requested(pod: &Pod, resource: &str) -> i64 {
    let measure = if resource == "cpu" { quantity::millis } else { quantity::value };
    let of = |container: &Container, resource: &str| qos::request(container, resource).and_then(measure);
    qos::pod_total(pod, resource, of, false).unwrap_or(0)
}

fn resources(pod: &Pod, others: &[Arc<Pod>], node: Node<'_>) -> Option<Reason> {
    for (resource, capacity) in node.allocatable {
        let (requested, used, capacity) = match resource.as_str() {
            "pods" => (1, i64::try_from(others.len()).unwrap_or(i64::MAX), quantity::value(capacity)?),
            "cpu" => (
                requested(pod, "cpu"),
                others.iter().map(|pod| self::requested(pod, "cpu")).sum(),
                quantity::millis(capacity)?,
            ),
            name => (
                requested(pod, name),
                others.iter().map(|pod| self::requested(pod, name)).sum(),
                quantity::value(capacity)?,
            ),
        };
        if requested > 0 && requested > capacity - used {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Some((format!("OutOf{resource}"), message));
        }
    }
    None
}

fn affinity(pod: &Pod, node: Node<'_>) -> Option<Reason> {
    let spec = pod::spec(pod);
    let mut selector = spec.node_selector.iter().flatten();
    let selected = selector.all(|(key, value)| node.labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted =
        required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)));
    if selected && wanted {
        return None;
    }
    predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

/// Whether a term matches: all its conditions do. One without conditions matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: Node<'_>) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
    let label =
        |condition: &NodeSelectorRequirement| matches(condition, node.labels.get(&condition.key).map(String::as_str));
    let field =
        |condition: &NodeSelectorRequirement| condition.key == "metadata.name" && matches(condition, Some(node.name));
    !(labels.is_empty() && fields.is_empty()) && labels.iter().all(label) && fields.iter().all(field)
}

fn matches(condition: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match condition.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = condition.values.clone().unwrap_or_default();
    Requirement::new(&condition.key, operator, values).is_ok_and(|requirement| requirement.matches(value))
}

/// The ports of the host that a pod takes.
fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let of = |port: &ContainerPort| {
        let number = port.host_port.filter(|port| *port > 0)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((number, protocol, port.host_ip.clone().unwrap_or_default()))
    };
    let runs = |kind: Kind| matches!(kind, Kind::Regular | Kind::Sidecar);
    let containers = pod::containers(pod).into_iter().filter(|(kind, _)| runs(*kind));
    containers.flat_map(|(_, container)| container.ports.iter().flatten().filter_map(of).collect::<Vec<_>>()).collect()
}

fn ports(pod: &Pod, others: &[Arc<Pod>]) -> Option<Reason> {
    let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    let wanted = host_ports(pod);
    let taken = |port: &(i32, String, String)| {
        others.iter().flat_map(|other| host_ports(other)).any(|other| {
            (port.0, &port.1) == (other.0, &other.1) && (any(&port.2) || any(&other.2) || port.2 == other.2)
        })
    };
    if !wanted.iter().any(taken) {
        return None;
    }
    predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
}

fn taints(pod: &Pod, node: Node<'_>) -> Option<Reason> {
    let tolerations = pod::spec(pod).tolerations.as_deref().unwrap_or_default();
    let tolerated = |taint: &Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    if node.taints.iter().filter(|taint| taint.effect == "NoExecute").all(tolerated) {
        return None;
    }
    predicate("TaintToleration", "node(s) had untolerated taint(s)")
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same = |wanted: &Option<String>, actual: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == actual)
    };
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    };
    same(&toleration.effect, &taint.effect) && same(&toleration.key, &taint.key) && value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn reason(spec: Value, others: &[Value]) -> Option<String> {
        let quantity = |text: &str| Quantity(text.to_owned());
        let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3"), ("example.com/gpu", "1")];
        let taints = serde_json::from_value(json!([
            {"key": "gone", "value": "v", "effect": "NoExecute"}, {"key": "soft", "effect": "NoSchedule"},
        ]));
        let node = Node {
            name: "n1",
            labels: &[("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())].into(),
            taints: &if spec["tolerations"].is_null() { Vec::new() } else { taints.unwrap() },
            allocatable: &allocatable.map(|(key, value)| (key.to_owned(), quantity(value))).into(),
            allowed_sysctls: &["net.core.*".to_owned()],
            has_apparmor: false,
            strict_groups: false,
            pressures: &serde_json::from_value::<Vec<String>>(spec["test-pressures"].clone())
                .unwrap_or_default()
                .iter()
                .map(|name| if name == "memory" { Pressure::Memory } else { Pressure::Disk })
                .collect(),
        };
        let others: Vec<Arc<Pod>> = others.iter().map(|spec| Arc::new(pod(spec.clone()))).collect();
        refusal(&pod(spec), &others, node).map(|failure| failure.reason)
    }

    fn asks(resource: &str, amount: &str) -> Value {
        json!({"containers": [{"name": "a", "resources": {"requests": {resource: amount}}}]})
    }

    fn port(port: i32, protocol: &str, ip: &str) -> Value {
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": port, "protocol": protocol, "hostIP": ip}]}]})
    }

    #[test]
    fn resources_have_to_be_left() {
        assert_eq!(reason(asks("cpu", "2"), &[]), None);
        assert_eq!(reason(asks("cpu", "1500m"), &[asks("cpu", "501m")]).as_deref(), Some("OutOfcpu"));
        assert_eq!(reason(asks("memory", "600Mi"), &[asks("memory", "500Mi")]).as_deref(), Some("OutOfmemory"));
        assert_eq!(reason(asks("example.com/gpu", "2"), &[]).as_deref(), Some("OutOfexample.com/gpu"));
        assert_eq!(reason(asks("example.com/other", "2"), &[]), None, "the node knows nothing of it");
        assert_eq!(reason(json!({}), &[json!({}), json!({}), json!({})]).as_deref(), Some("OutOfpods"));
        // A pod that asks for nothing has a place even where everything is taken.
        assert_eq!(reason(json!({}), &[asks("cpu", "9")]), None);
    }

    #[test]
    fn the_node_has_to_be_one_that_the_pod_wants() {
        let expression =
            |key: &str, operator: &str, values: &[&str]| json!([{"key": key, "operator": operator, "values": values}]);
        let term = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
        for (spec, fits) in [
            (json!({"nodeSelector": {"zone": "a"}}), true),
            (json!({"nodeSelector": {"zone": "b"}}), false),
            (term(json!({"matchExpressions": expression("zone", "In", &["a", "b"])})), true),
            (term(json!({"matchExpressions": expression("zone", "NotIn", &["a"])})), false),
            (term(json!({"matchExpressions": expression("cores", "Gt", &["4"])})), true),
            (term(json!({"matchExpressions": expression("none", "Exists", &[])})), false),
            (term(json!({"matchFields": expression("metadata.name", "In", &["n1"])})), true),
            (term(json!({"matchFields": expression("metadata.name", "In", &["n2"])})), false),
            (term(json!({})), false),
        ] {
            let expected = (!fits).then_some("NodeAffinity");
            assert_eq!(reason(spec.clone(), &[]).as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn ports_of_the_host_are_taken_once() {
        for (wanted, taken, fits) in [
            (port(80, "TCP", ""), port(81, "TCP", ""), true),
            (port(80, "TCP", ""), port(80, "UDP", ""), true),
            (port(80, "TCP", ""), port(80, "TCP", "10.0.0.1"), false),
            (port(80, "TCP", "10.0.0.2"), port(80, "TCP", "10.0.0.1"), true),
        ] {
            let expected = (!fits).then_some("NodePorts");
            assert_eq!(reason(wanted.clone(), std::slice::from_ref(&taken)).as_deref(), expected, "{wanted} {taken}");
        }
    }

    #[test]
    fn taints_that_evict_have_to_be_tolerated() {
        for (toleration, fits) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gone", "value": "v"}), true),
            (json!({"key": "gone", "value": "w"}), false),
            (json!({"key": "gone", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "soft", "operator": "Exists"}), false),
        ] {
            let expected = (!fits).then_some("TaintToleration");
            assert_eq!(reason(json!({"tolerations": [toleration]}), &[]).as_deref(), expected, "{toleration}");
        }
    }

    #[test]
    fn a_node_under_pressure_takes_what_matters() {
        let with = |mut spec: Value, pressures: &[&str]| {
            spec["test-pressures"] = json!(pressures);
            reason(spec, &[])
        };
        let tolerates = json!({"tolerations": [{"key": MEMORY_TAINT, "operator": "Exists"}, {"operator": "Exists"}]});
        let critical = json!({"priority": 2_000_000_000});
        for (spec, memory, disk) in [
            (json!({}), false, false),
            (asks("memory", "1"), true, false),
            (tolerates, true, false),
            (critical, true, true),
        ] {
            assert_eq!(with(spec.clone(), &["memory"]).is_none(), memory, "{spec}");
            assert_eq!(with(spec.clone(), &["memory", "disk"]).is_none(), disk, "{spec}");
        }
        assert_eq!(with(json!({}), &["disk"]).as_deref(), Some("Evicted"));
    }

    #[test]
    fn what_the_node_cannot_do_is_refused() {
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        assert_eq!(reason(sysctl("kernel.shm_rmid_forced"), &[]), None);
        assert_eq!(reason(sysctl("net.core.somaxconn"), &[]), None);
        assert_eq!(reason(sysctl("kernel.msgmax"), &[]).as_deref(), Some("SysctlForbidden"));
        let mut of_host = sysctl("net.ipv4.tcp_syncookies");
        of_host["hostNetwork"] = true.into();
        assert_eq!(reason(of_host, &[]).as_deref(), Some("SysctlForbidden"));
        assert_eq!(reason(json!({"os": {"name": "windows"}}), &[]).as_deref(), Some("PodOSNotSupported"));
        let profile = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        assert_eq!(reason(profile, &[]).as_deref(), Some("AppArmor"));
        let groups = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}});
        assert_eq!(reason(groups, &[]).as_deref(), Some("SupplementalGroupsPolicyNotSupported"));
    }
}
