//! The metrics of kube-scheduler, under Kubernetes' names.

use std::time::Duration;

use component_base::metrics::Registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::labels::Str;
use crate::scheduler::{Assignment, Outcome, Scheduler, UNSCHEDULABLE};

/// Names and help texts; a counter's name stands without its `_total`.
mod names {
    pub const ATTEMPTS: (&str, &str) = (
        "scheduler_schedule_attempts",
        "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem",
    );
    pub const ATTEMPT_DURATION: (&str, &str) = (
        "scheduler_scheduling_attempt_duration_seconds",
        "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
    );
    pub const ALGORITHM_DURATION: (&str, &str) =
        ("scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds");
    pub const SLI_DURATION: (&str, &str) = (
        "scheduler_pod_scheduling_sli_duration_seconds",
        "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue",
    );
    pub const POD_ATTEMPTS: (&str, &str) =
        ("scheduler_pod_scheduling_attempts", "Number of attempts to successfully schedule a pod");
    pub const PENDING: (&str, &str) = ("scheduler_pending_pods", "Number of pending pods, by the queue type");
    pub const CACHE_SIZE: (&str, &str) =
        ("scheduler_scheduler_cache_size", "Number of nodes, pods, and assumed (bound) pods in the scheduler cache");
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
enum ResultLabel {
    scheduled,
    unschedulable,
    error,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Scheduled,
    Unschedulable,
    Error,
}

impl From<Attempt> for ResultLabel {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Scheduled => Self::scheduled,
            Attempt::Unschedulable => Self::unschedulable,
            Attempt::Error => Self::error,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    profile: String,
    result: ResultLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAttempts {
    attempts: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByQueue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByType {
    r#type: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    attempts: Family<ByResult, Counter>,
    attempt_duration: Durations<ByResult>,
    algorithm_duration: Histogram,
    sli_duration: Durations<ByAttempts>,
    pod_attempts: Histogram,
    pending: [Gauge; 4],
    cache_size: [Gauge; 3],
}

fn milliseconds_to_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn centiseconds_to_minutes() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        let pending: Family<ByQueue, Gauge> = registry.register(names::PENDING, Family::default());
        let sizes: Family<ByType, Gauge> = registry.register(names::CACHE_SIZE, Family::default());
        let durations = milliseconds_to_seconds as fn() -> Histogram;
        let sli = centiseconds_to_minutes as fn() -> Histogram;
        Self {
            attempts: registry.register(names::ATTEMPTS, Family::default()),
            attempt_duration: registry.register(names::ATTEMPT_DURATION, Family::new_with_constructor(durations)),
            algorithm_duration: registry.register(names::ALGORITHM_DURATION, milliseconds_to_seconds()),
            sli_duration: registry.register(names::SLI_DURATION, Family::new_with_constructor(sli)),
            pod_attempts: registry.register(names::POD_ATTEMPTS, Histogram::new(exponential_buckets(1.0, 2.0, 5))),
            pending: ["active", "backoff", "unschedulable", "gated"]
                .map(|queue| pending.get_or_create_owned(&ByQueue { queue })),
            cache_size: ["nodes", "pods", "assumed_pods"]
                .map(|kind| sizes.get_or_create_owned(&ByType { r#type: kind })),
        }
    }

    /// Counts an attempt.
    pub fn attempt(&self, profile: &Str, attempt: Attempt, took: Duration) {
        let labels = ByResult { profile: profile.to_string(), result: attempt.into() };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a cycle. An attempt that found a node is counted when it is bound.
    pub fn cycle(&self, outcome: &Outcome, took: Duration) {
        match outcome {
            Outcome::Assigned(_) => self.algorithm_duration.observe(took.as_secs_f64()),
            Outcome::Failed(rejection) => {
                let attempt = if rejection.reason == UNSCHEDULABLE { Attempt::Unschedulable } else { Attempt::Error };
                self.attempt(&rejection.pod.scheduler_name, attempt, took);
            }
            Outcome::Dropped => {}
        }
    }

    /// Counts a pod that is bound.
    pub fn bound(&self, assignment: &Assignment, took: Duration) {
        self.attempt(&assignment.profile.scheduler_name, Attempt::Scheduled, took);
        self.pod_attempts.observe(f64::from(assignment.attempts));
        let attempts = if assignment.attempts >= 16 { "16+".to_owned() } else { assignment.attempts.to_string() };
        let waited = assignment.waited + took;
        self.sli_duration.get_or_create(&ByAttempts { attempts }).observe(waited.as_secs_f64());
    }

    /// Shows the sizes of queue and cache.
    pub fn observe(&self, scheduler: &Scheduler) {
        let (queue, cache) = (scheduler.queue_sizes(), scheduler.cache());
        let pending = [queue.active, queue.backoff, queue.unschedulable, queue.gated];
        let sizes = [cache.node_count(), cache.pod_count(), scheduler.binding_count()];
        for (gauge, size) in self.pending.iter().zip(pending).chain(self.cache_size.iter().zip(sizes)) {
            gauge.set(size as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_kubernetes_names_and_labels() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry);
        metrics.attempt(&"default-scheduler".into(), Attempt::Scheduled, Duration::from_millis(3));
        let text = registry.encode();
        for line in [
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_pending_pods{queue=\"active\"} 0",
            "scheduler_scheduler_cache_size{type=\"assumed_pods\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
