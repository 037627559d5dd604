//! What the pods of a node ask for, and how much of the node that is.

use std::collections::BTreeMap;

use apimachinery::Quantity;
use jiff::Timestamp;
use serde_json::Value;

use super::super::page::Page;
use super::super::time::since;
use crate::fields::{self, Fields};

/// Amounts by the names of their resources.
type Amounts = BTreeMap<String, Quantity>;

/// Writes the node's pods and the sums of what they ask for.
pub fn describe(page: &mut Page, node: &Value, pods: &[Value], now: Timestamp) {
    let status = node.at("status");
    let allocatable =
        amounts(if status.map("allocatable").is_some() { status.at("allocatable") } else { status.at("capacity") });
    let of = |name: &str, amounts: &Amounts| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let share = |name: &str, amount: Quantity| format!("{amount} ({}%)", percent(name, amount, of(name, &allocatable)));
    page.field(0, "Non-terminated Pods", format_args!("({} in total)", pods.len()));
    page.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    page.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for pod in pods {
        let (asked, most) = (of_pod(pod, "requests"), of_pod(pod, "limits"));
        page.line(
            1,
            format_args!(
                "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
                fields::namespace(pod),
                fields::name(pod),
                share("cpu", of("cpu", &asked)),
                share("cpu", of("cpu", &most)),
                share("memory", of("memory", &asked)),
                share("memory", of("memory", &most)),
                since(pod.at("metadata.creationTimestamp"), now)
            ),
        );
        add(&mut requests, &asked);
        add(&mut limits, &most);
    }
    page.line(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    let huge = allocatable.keys().filter(|name| name.starts_with("hugepages-"));
    for name in ["cpu", "memory", "ephemeral-storage"].into_iter().chain(huge.map(String::as_str)) {
        let (asked, most) = (share(name, of(name, &requests)), share(name, of(name, &limits)));
        page.line(1, format_args!("{name}\t{asked}\t{most}"));
    }
    for name in allocatable.keys().filter(|name| is_extended(name)) {
        page.line(1, format_args!("{name}\t{}\t{}", of(name, &requests), of(name, &limits)));
    }
}

fn is_extended(name: &str) -> bool {
    !matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods") && !name.starts_with("hugepages-")
}

/// How much of the whole an amount is; 0 of nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a percentage, shown without decimals")]
fn percent(name: &str, amount: Quantity, whole: Quantity) -> i64 {
    let of = if name == "cpu" { Quantity::milli_value } else { Quantity::value };
    match of(&whole) {
        0 => 0,
        whole => (of(&amount) as f64 / whole as f64 * 100.0) as i64,
    }
}

fn amounts(map: &Value) -> Amounts {
    let parse = |(name, amount): (&String, &Value)| Some((name.clone(), fields::plain(amount).parse().ok()?));
    map.map("").into_iter().flatten().filter_map(parse).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let present = sum.get(name).copied();
        sum.insert(name.clone(), present.map_or(*amount, |present| present + *amount));
    }
}

fn most(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if sum.get(name).is_none_or(|present| present < amount) {
            sum.insert(name.clone(), *amount);
        }
    }
}

/// What a pod asks for: its containers together, or the most that an init container needs beside the sidecars started
/// before it; what the pod itself says goes before that, and its overhead is added.
fn of_pod(pod: &Value, list: &str) -> Amounts {
    let spec = pod.at("spec");
    let of = |container: &Value| amounts(container.at("resources").at(list));
    let mut sum = Amounts::new();
    spec.list("containers").iter().for_each(|container| add(&mut sum, &of(container)));
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        let mut needed = of(container);
        if container.text("restartPolicy") == "Always" {
            add(&mut sum, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        most(&mut starting, &needed);
    }
    most(&mut sum, &starting);
    sum.extend(amounts(spec.at("resources").at(list)));
    let mut overhead = amounts(spec.at("overhead"));
    if list == "limits" {
        overhead.retain(|name, _| sum.get(name).is_some_and(|amount| !amount.is_zero()));
    }
    add(&mut sum, &overhead);
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_needs_its_containers_or_its_greediest_init_container() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("50m");
        sidecar["restartPolicy"] = "Always".into();
        let cpu = |spec: Value| of_pod(&json!({"spec": spec}), "requests")["cpu"].to_string();
        assert_eq!(cpu(json!({"containers": [container("100m"), container("200m")]})), "300m");
        assert_eq!(cpu(json!({"initContainers": [container("1")], "containers": [container("100m")]})), "1");
        let after = json!({"initContainers": [sidecar, container("1")], "containers": [container("100m")]});
        assert_eq!(cpu(after), "1050m");
        let whole = json!({"resources": {"requests": {"cpu": "2"}}, "containers": [container("100m")], "overhead": {"cpu": "10m"}});
        assert_eq!(cpu(whole), "2010m");
    }
}
