//! What the node, its pods and their containers use, as metrics and as a summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use component_base::metrics::{CONTENT_TYPE, Registry};
use component_base::serving::{Body, respond, text};
use http::{Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use proto::cri as api;
use serde_json::{Value, json};

use super::json as answer;
use crate::eviction::{Measured, Seen, Signal, usage};
use crate::pods::Pods;
use crate::runtime::{State, labels};
use crate::{pod, runtime};

/// `/proc/stat` counts in hundredths of a second.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Use of processors and memory, and when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_nanos: u64,
    working_set: u64,
    at: Timestamp,
}

struct Container {
    name: String,
    id: String,
    started: Option<Timestamp>,
    usage: Usage,
    /// Bytes in its own layer.
    written: Option<u64>,
}

struct OfPod {
    pod: Pod,
    containers: Vec<Container>,
}

impl OfPod {
    fn total(&self, at: Timestamp) -> Usage {
        let sum = |of: fn(&Usage) -> u64| self.containers.iter().map(|container| of(&container.usage)).sum();
        Usage { cpu_nanos: sum(|usage| usage.cpu_nanos), working_set: sum(|usage| usage.working_set), at }
    }
}

/// Everything at one time.
struct Readings {
    node: String,
    usage: Usage,
    measured: Measured,
    pods: Vec<OfPod>,
}

/// How long the processors have been busy.
fn busy(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.by_ref().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    // All but idle and waiting for disks.
    let idle: u64 = ticks.get(3..5)?.iter().sum();
    Some((ticks.iter().sum::<u64>() - idle) * NANOS_PER_TICK)
}

fn container(stats: &api::ContainerStats, view: &runtime::PodView) -> Option<Container> {
    let attributes = stats.attributes.as_ref()?;
    let value = |value: &Option<api::UInt64Value>| value.as_ref().map(|value| value.value);
    let (cpu, memory) = (stats.cpu.as_ref()?, stats.memory.as_ref()?);
    let started = view.containers.iter().find(|container| container.id == attributes.id);
    Some(Container {
        name: attributes.labels.get(labels::CONTAINER_NAME)?.clone(),
        id: attributes.id.clone(),
        started: started.and_then(|container| container.started_at),
        usage: Usage {
            cpu_nanos: value(&cpu.usage_core_nano_seconds)?,
            working_set: value(&memory.working_set_bytes)?,
            at: Timestamp::from_nanosecond(i128::from(cpu.timestamp)).ok()?,
        },
        written: stats.writable_layer.as_ref().and_then(|layer| value(&layer.used_bytes)),
    })
}

async fn read(pods: &Pods) -> Result<Readings, Response<Body>> {
    let failed = |error: &dyn std::fmt::Display| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    let agent = pods.agent();
    let stats = agent.runtime.stats().await.map_err(|error| failed(&error))?;
    let measured = usage::of_node(agent).await;
    let stat = std::fs::read_to_string("/proc/stat").map_err(|error| failed(&format!("/proc/stat: {error}")))?;
    let memory = measured.get(&Signal::MemoryAvailable).ok_or_else(|| failed(&"the node's memory is not known"))?;
    let usage = Usage {
        cpu_nanos: busy(&stat).ok_or_else(|| failed(&"/proc/stat is not understood"))?,
        working_set: (memory.capacity - memory.available).unsigned_abs(),
        at: agent.clock.now(),
    };
    let of_pod = |handle: crate::worker::Handle| {
        let view = handle.shared.view.lock();
        let mut pod = Pod::clone(&handle.input.borrow().pod);
        pod.status = Some(handle.shared.status.lock().clone());
        let is_theirs = |stats: &&api::ContainerStats| {
            let uid = stats.attributes.as_ref().and_then(|attributes| attributes.labels.get(labels::POD_UID));
            uid.is_some_and(|uid| uid == pod::uid(&pod))
        };
        // What ended uses nothing any more, and counts no longer.
        let runs = |container: &Container| {
            view.containers.iter().any(|known| known.id == container.id && known.state == State::Running)
        };
        let containers =
            stats.iter().filter(is_theirs).filter_map(|stats| container(stats, &view)).filter(runs).collect();
        OfPod { pod, containers }
    };
    let pods = pods.handles().into_iter().map(of_pod).collect();
    Ok(Readings { node: agent.node_name.clone(), usage, measured, pods })
}

type Labels<'a> = Vec<(&'a str, &'a str)>;
type Sample<'a> = (Labels<'a>, f64, Option<Timestamp>);

/// One metric in Prometheus' text format.
fn family<'a>(out: &mut String, (name, kind, help): (&str, &str, &str), samples: impl IntoIterator<Item = Sample<'a>>) {
    let mut line = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value, at) in samples {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let at = at.map(|at| format!(" {}", at.as_millisecond())).unwrap_or_default();
        let _infallible = writeln!(line, "{name}{labels} {value}{at}");
    }
    out.push_str(&line);
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Readings {
    fn containers(&self) -> impl Iterator<Item = (&Pod, &Container)> {
        self.pods.iter().flat_map(|of| of.containers.iter().map(|container| (&of.pod, container)))
    }

    fn of_containers(&self, value: impl Fn(&Container) -> Option<f64>) -> Vec<Sample<'_>> {
        let sample = |(pod, container)| {
            let labels = labels_of(pod, Some(container));
            Some((labels, value(container)?, Some(container.usage.at)))
        };
        self.containers().filter_map(sample).collect()
    }

    fn of_pods(&self, value: impl Fn(Usage) -> f64) -> Vec<Sample<'_>> {
        let running = self.pods.iter().filter(|of| !of.containers.is_empty());
        running.map(|of| (labels_of(&of.pod, None), value(of.total(self.usage.at)), Some(self.usage.at))).collect()
    }

    /// The metrics that metrics-server reads.
    fn resource(&self) -> String {
        let mut out = String::new();
        let node = |value: f64| [(Vec::new(), value, Some(self.usage.at))];
        let cpu = |of: &Container| Some(seconds(of.usage.cpu_nanos));
        let memory = |of: &Container| Some(of.usage.working_set as f64);
        let since = |of: &Container| of.started.map(|at| at.as_millisecond() as f64 / 1e3);
        family(&mut out, CONTAINER_CPU, self.of_containers(cpu));
        family(&mut out, CONTAINER_MEMORY, self.of_containers(memory));
        family(&mut out, CONTAINER_START, self.of_containers(since));
        family(&mut out, NODE_CPU, node(seconds(self.usage.cpu_nanos)));
        family(&mut out, NODE_MEMORY, node(self.usage.working_set as f64));
        family(&mut out, POD_CPU, self.of_pods(|usage| seconds(usage.cpu_nanos)));
        family(&mut out, POD_MEMORY, self.of_pods(|usage| usage.working_set as f64));
        family(&mut out, SCRAPE_ERROR, [(Vec::new(), 0.0, None)]);
        out
    }

    /// The most used of the metrics that cAdvisor has in the original, with its labels.
    fn cadvisor(&self, cpus: usize) -> String {
        let mut out = String::new();
        let memory = self.measured.get(&Signal::MemoryAvailable).map_or(0, |seen| seen.capacity);
        family(&mut out, CONTAINER_CPU, self.of_containers(|of| Some(seconds(of.usage.cpu_nanos))));
        family(&mut out, CONTAINER_MEMORY, self.of_containers(|of| Some(of.usage.working_set as f64)));
        family(&mut out, CONTAINER_DISK, self.of_containers(|of| Some(of.written? as f64)));
        family(&mut out, CONTAINER_START, self.of_containers(|of| of.started.map(|at| at.as_second() as f64)));
        family(&mut out, MACHINE_CPUS, [(Vec::new(), cpus as f64, None)]);
        family(&mut out, MACHINE_MEMORY, [(Vec::new(), memory as f64, None)]);
        out
    }

    fn summary(&self) -> Value {
        let cpu = |usage: Usage| json!({ "time": usage.at, "usageCoreNanoSeconds": usage.cpu_nanos });
        let memory = |usage: Usage| json!({ "time": usage.at, "workingSetBytes": usage.working_set });
        let container = |of: &Container| {
            let rootfs = of.written.map(|used| json!({ "time": of.usage.at, "usedBytes": used }));
            json!({
                "name": of.name, "startTime": of.started, "cpu": cpu(of.usage), "memory": memory(of.usage), "rootfs": rootfs,
            })
        };
        let of_pod = |of: &OfPod| {
            let total = of.total(self.usage.at);
            json!({
                "podRef": { "name": pod::name(&of.pod), "namespace": pod::namespace(&of.pod), "uid": pod::uid(&of.pod) },
                "startTime": of.pod.status.as_ref().and_then(|status| status.start_time.clone()),
                "containers": of.containers.iter().map(container).collect::<Vec<_>>(),
                "cpu": cpu(total), "memory": memory(total),
            })
        };
        let mut own_memory = memory(self.usage);
        own_memory["availableBytes"] = json!(self.measured.get(&Signal::MemoryAvailable).map(|seen| seen.available));
        json!({
            "node": {
                "nodeName": self.node, "cpu": cpu(self.usage), "memory": own_memory,
                "fs": self.disk(Signal::NodefsAvailable, Signal::NodefsInodesFree),
                "runtime": { "imageFs": self.disk(Signal::ImagefsAvailable, Signal::ImagefsInodesFree) },
            },
            "pods": self.pods.iter().map(of_pod).collect::<Vec<_>>(),
        })
    }

    fn disk(&self, bytes: Signal, inodes: Signal) -> Value {
        let Some(seen) = self.measured.get(&bytes) else { return Value::Null };
        let files = self.measured.get(&inodes).copied().unwrap_or(Seen { available: 0, capacity: 0 });
        json!({
            "time": self.usage.at,
            "availableBytes": seen.available, "capacityBytes": seen.capacity, "usedBytes": seen.capacity - seen.available,
            "inodesFree": files.available, "inodes": files.capacity, "inodesUsed": files.capacity - files.available,
        })
    }
}

fn labels_of<'a>(pod: &'a Pod, container: Option<&'a Container>) -> Labels<'a> {
    let own = container.map(|container| ("container", container.name.as_str()));
    own.into_iter().chain([("namespace", pod::namespace(pod)), ("pod", pod::name(pod))]).collect()
}

type Family = (&'static str, &'static str, &'static str);

const CONTAINER_CPU: Family = (
    "container_cpu_usage_seconds_total",
    "counter",
    "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
);
const CONTAINER_MEMORY: Family =
    ("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes");
const CONTAINER_START: Family =
    ("container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds");
const CONTAINER_DISK: Family =
    ("container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container on this filesystem.");
const NODE_CPU: Family =
    ("node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds");
const NODE_MEMORY: Family =
    ("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes");
const POD_CPU: Family =
    ("pod_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds");
const POD_MEMORY: Family =
    ("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes");
const SCRAPE_ERROR: Family =
    ("resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise");
const MACHINE_CPUS: Family = ("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
const MACHINE_MEMORY: Family = ("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
const RUNNING_PODS: Family = ("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
const RUNNING_CONTAINERS: Family = ("kubelet_running_containers", "gauge", "Number of containers currently running");

/// `/metrics`.
pub fn metrics(registry: &Registry, pods: &Pods) -> Response<Body> {
    let (mut running, mut by_state) = (0, BTreeMap::new());
    for handle in pods.handles() {
        let view = handle.shared.view.lock();
        running += usize::from(view.ready_sandbox().is_some());
        for container in &view.containers {
            let state = match container.state {
                State::Created => "created",
                State::Running => "running",
                State::Exited => "exited",
                State::Unknown => "unknown",
            };
            *by_state.entry(state).or_insert(0_u32) += 1;
        }
    }
    let mut own = String::new();
    family(&mut own, RUNNING_PODS, [(Vec::new(), running as f64, None)]);
    let by_state =
        by_state.into_iter().map(|(state, count)| (vec![("container_state", state)], f64::from(count), None));
    family(&mut own, RUNNING_CONTAINERS, by_state);
    respond(StatusCode::OK, CONTENT_TYPE, own + &registry.encode())
}

/// `/metrics/resource`.
pub async fn resource(pods: &Pods) -> Response<Body> {
    match read(pods).await {
        Ok(readings) => respond(StatusCode::OK, CONTENT_TYPE, readings.resource()),
        Err(failure) => failure,
    }
}

/// `/metrics/cadvisor`.
pub async fn cadvisor(pods: &Pods) -> Response<Body> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    match read(pods).await {
        Ok(readings) => respond(StatusCode::OK, CONTENT_TYPE, readings.cadvisor(cpus)),
        Err(failure) => failure,
    }
}

/// `/stats/summary`.
pub async fn summary(pods: &Pods) -> Response<Body> {
    match read(pods).await {
        Ok(readings) => answer(&readings.summary()),
        Err(failure) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings() -> Readings {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let usage = |cpu_nanos, working_set| Usage { cpu_nanos, working_set, at: at(100) };
        let container = |name: &str, usage| Container {
            name: name.into(),
            id: format!("id-{name}"),
            started: Some(at(50)),
            usage,
            written: Some(7),
        };
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}})).unwrap();
        let containers = vec![container("a", usage(1_500_000_000, 10)), container("b", usage(500_000_000, 20))];
        let memory = (Signal::MemoryAvailable, Seen { available: 400, capacity: 1000 });
        Readings {
            node: "n1".into(),
            usage: usage(9_000_000_000, 600),
            measured: [memory].into(),
            pods: vec![OfPod { pod, containers }],
        }
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        assert_eq!(busy("cpu  1 2 3 100 50 4 5 6 0 0\ncpu0 1\n"), Some(21 * NANOS_PER_TICK));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn metrics_have_the_form_that_scrapers_read() {
        let text = readings().resource();
        for line in [
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} 1.5 100000",
            "container_start_time_seconds{container=\"b\",namespace=\"n\",pod=\"p\"} 50 100000",
            "node_cpu_usage_seconds_total 9 100000",
            "node_memory_working_set_bytes 600 100000",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 2 100000",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 30 100000",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}: {text}");
        }
        assert!(
            readings().cadvisor(2).contains("container_fs_usage_bytes{container=\"a\",namespace=\"n\",pod=\"p\"} 7 ")
        );
    }

    #[test]
    fn the_summary_tells_of_node_pods_and_containers() {
        let summary = readings().summary();
        let memory = &summary["node"]["memory"];
        assert_eq!((&memory["availableBytes"], &memory["workingSetBytes"]), (&json!(400), &json!(600)));
        let pod = &summary["pods"][0];
        assert_eq!((&pod["podRef"]["uid"], &pod["memory"]["workingSetBytes"]), (&json!("u"), &json!(30)));
        assert_eq!(pod["containers"][1]["startTime"], "1970-01-01T00:00:50Z");
    }
}
