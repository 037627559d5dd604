//! The metrics of a process: one registry, shown in Prometheus' text format, and the names of all metrics of this crate.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Metric;

/// Names and help texts. A counter's name stands without its `_total`, which the encoder adds.
pub mod names {
    /// Depth of a controller's queue.
    pub const WORKQUEUE_DEPTH: (&str, &str) = ("workqueue_depth", "Current depth of workqueue");
    /// Reconciles started.
    pub const RECONCILES: (&str, &str) =
        ("controller_runtime_reconcile", "Total number of reconciliations per controller and result");
    /// Time of reconciles.
    pub const WORK_DURATION: (&str, &str) =
        ("workqueue_work_duration_seconds", "How long in seconds processing an item from workqueue takes");
    /// Retries of failed keys.
    pub const WORKQUEUE_RETRIES: (&str, &str) = ("workqueue_retries", "Total number of retries handled by workqueue");
    /// Who leads.
    pub const LEADER: (&str, &str) = (
        "leader_election_master_status",
        "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master",
    );
}

/// The content type of [`Registry::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a process. Clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<prometheus_client::registry::Registry>>,
}

impl Registry {
    /// No metrics yet, but for those of the process (`process_*`), which every registry shows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric or a family and gives it back, to be kept and counted on. `name` and `help` as a pair, as in [`names`].
    pub fn register<M: Metric + Clone>(&self, (name, help): (&str, &str), metric: M) -> M {
        self.inner.lock().register(name, help, metric.clone());
        metric
    }

    /// Adds metrics that are looked up when they are asked for.
    pub fn collect(&self, collector: Box<dyn Collector>) {
        self.inner.lock().register_collector(collector);
    }

    /// All metrics in Prometheus' text format ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode_registry(&mut text, &self.inner.lock()).is_err() {
            tracing::error!("metrics cannot be encoded");
        }
        let mut plain = to_plain_text(&text);
        plain.push_str(&process_metrics());
        plain
    }
}

/// OpenMetrics names a counter's family without `_total` and ends help texts with a full stop; the plain format does not.
fn to_plain_text(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take().filter(|(named, _)| *named == name) {
                let _infallible = writeln!(out, "# HELP {name}{suffix} {}", text.strip_suffix('.').unwrap_or(text));
            }
            let _infallible = writeln!(out, "# TYPE {name}{suffix} {kind}");
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

const CLOCK_TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// The usual `process_*` metrics, from /proc.
fn process_metrics() -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, kind: &str, help: &str, value: f64| {
        let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    // Fields as numbered in proc(5), counted from the third.
    let [utime, stime] = [fields.get(11), fields.get(12)].map(|f| f.copied().unwrap_or(0.0));
    let seconds = (utime + stime) / CLOCK_TICKS;
    gauge("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds", seconds);
    let resident = fields.get(21).copied().unwrap_or(0.0) * PAGE;
    gauge("process_resident_memory_bytes", "gauge", "Resident memory size in bytes", resident);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    gauge("process_open_fds", "gauge", "Number of open file descriptors", descriptors as f64);
    if let Some(started) = fields.get(19).and_then(|ticks| Some(boot_time()? + ticks / CLOCK_TICKS)) {
        gauge("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds", started);
    }
    out
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn text_is_prometheus_plain_format() {
        let registry = Registry::new();
        let counter: Counter = registry.register(("things", "Things done"), Counter::default());
        let gauge: Gauge = registry.register(names::WORKQUEUE_DEPTH, Gauge::default());
        counter.inc();
        gauge.set(3);
        let text = registry.encode();
        assert!(
            text.contains("# HELP things_total Things done\n# TYPE things_total counter\nthings_total 1\n"),
            "{text}"
        );
        assert!(text.contains("# TYPE workqueue_depth gauge\nworkqueue_depth 3\n"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(!text.contains("EOF"));
    }
}
