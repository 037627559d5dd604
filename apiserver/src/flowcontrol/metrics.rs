//! Metrics of priority and fairness, under Kubernetes' names.
//!
//! What is counted per request has its handles in the flow that it belongs to; how many wait and run is looked up when it is asked.

use std::fmt;
use std::sync::Weak;

use component_base::metrics::Registry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::FlowControl;
use super::fair_queue::Reason;
use super::level::Level;

const DISPATCHED: (&str, &str) =
    ("apiserver_flowcontrol_dispatched_requests", "Number of requests executed by API Priority and Fairness subsystem");
const REJECTED: (&str, &str) =
    ("apiserver_flowcontrol_rejected_requests", "Number of requests rejected by API Priority and Fairness subsystem");
const WAITED: (&str, &str) =
    ("apiserver_flowcontrol_request_wait_duration_seconds", "Length of time a request spent waiting in its queue");
const EXECUTED: (&str, &str) = (
    "apiserver_flowcontrol_request_execution_seconds",
    "Duration of initial stage (for a WATCH) or any (for a non-WATCH) request execution in the API Priority and Fairness subsystem",
);
const QUEUE_LENGTH: (&str, &str) = (
    "apiserver_flowcontrol_request_queue_length_after_enqueue",
    "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
);
const ESTIMATED: (&str, &str) = (
    "apiserver_flowcontrol_work_estimated_seats",
    "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness",
);
const WATCHERS: (&str, &str) = (
    "apiserver_flowcontrol_watch_count_samples",
    "count of watchers for mutating requests in API Priority and Fairness",
);
const SECONDS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FlowLabels {
    pub flow_schema: String,
    pub priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectedLabels {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WaitedLabels {
    execute: &'static str,
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExecutedLabels {
    flow_schema: String,
    priority_level: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LevelLabels {
    priority_level: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metric of a family; nothing of the family is locked any more when it is returned.
fn handle<L: Clone + Eq + std::hash::Hash, M: Clone, C: MetricConstructor<M>>(
    family: &Family<L, M, C>,
    labels: &L,
) -> M {
    let metric = family.get_or_create(labels);
    M::clone(&metric)
}

/// The families.
#[derive(Clone)]
pub struct Metrics {
    dispatched: Family<FlowLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    waited: Histograms<WaitedLabels>,
    executed: Histograms<ExecutedLabels>,
    queue_length: Histograms<FlowLabels>,
    estimated: Histograms<FlowLabels>,
    watchers: Histograms<FlowLabels>,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let lengths: fn() -> Histogram = || Histogram::new([0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0]);
        let seats: fn() -> Histogram = || Histogram::new([1.0, 2.0, 4.0, 10.0]);
        let counts: fn() -> Histogram = || Histogram::new([0.0, 1.0, 10.0, 100.0, 1000.0, 10000.0]);
        Metrics {
            dispatched: registry.register(DISPATCHED, Family::default()),
            rejected: registry.register(REJECTED, Family::default()),
            waited: registry.register(WAITED, Family::new_with_constructor(seconds)),
            executed: registry.register(EXECUTED, Family::new_with_constructor(seconds)),
            queue_length: registry.register(QUEUE_LENGTH, Family::new_with_constructor(lengths)),
            estimated: registry.register(ESTIMATED, Family::new_with_constructor(seats)),
            watchers: registry.register(WATCHERS, Family::new_with_constructor(counts)),
        }
    }

    /// The handles of one flow schema at its level.
    pub fn flow(&self, flow_schema: &str, priority_level: &str) -> Flow {
        let [flow_schema, priority_level] = [flow_schema, priority_level].map(str::to_owned);
        let labels = FlowLabels { flow_schema: flow_schema.clone(), priority_level: priority_level.clone() };
        let waited = |execute| WaitedLabels {
            execute,
            flow_schema: flow_schema.clone(),
            priority_level: priority_level.clone(),
        };
        let executed = |r#type| ExecutedLabels {
            flow_schema: flow_schema.clone(),
            priority_level: priority_level.clone(),
            r#type,
        };
        Flow {
            dispatched: handle(&self.dispatched, &labels),
            waited: handle(&self.waited, &waited("true")),
            waited_in_vain: handle(&self.waited, &waited("false")),
            executed: handle(&self.executed, &executed("regular")),
            initialized: handle(&self.executed, &executed("watch")),
            queue_length: handle(&self.queue_length, &labels),
            estimated: handle(&self.estimated, &labels),
            watchers: handle(&self.watchers, &labels),
            rejected: self.rejected.clone(),
            labels,
        }
    }
}

/// The metrics of one flow schema at its level.
pub struct Flow {
    pub labels: FlowLabels,
    pub dispatched: Counter,
    pub waited: Histogram,
    pub waited_in_vain: Histogram,
    pub executed: Histogram,
    /// How long watches took until their initial events were sent.
    pub initialized: Histogram,
    pub queue_length: Histogram,
    pub estimated: Histogram,
    pub watchers: Histogram,
    rejected: Family<RejectedLabels, Counter>,
}

impl Flow {
    /// Counts a refusal.
    pub fn reject(&self, reason: Reason) {
        let FlowLabels { flow_schema, priority_level } = self.labels.clone();
        self.rejected.get_or_create(&RejectedLabels { flow_schema, priority_level, reason: reason.as_str() }).inc();
    }
}

/// Numbers that are looked up when they are asked for.
#[derive(Debug)]
pub struct Present(pub Weak<FlowControl>);

/// A gauge of each flow: name, help, and what it shows of its requests.
type FlowGauge = (&'static str, &'static str, fn(&Load) -> i64);
/// A gauge of each level.
type LevelGauge = (&'static str, &'static str, fn(&Level) -> f64);

/// What the requests of one flow take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub executing: i64,
    pub seats: i64,
    pub waiting: i64,
    pub seats_waiting: i64,
}

const FLOW_GAUGES: [FlowGauge; 4] = [
    (
        "apiserver_flowcontrol_current_executing_requests",
        "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
        |load| load.executing,
    ),
    (
        "apiserver_flowcontrol_current_executing_seats",
        "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
        |load| load.seats,
    ),
    (
        "apiserver_flowcontrol_current_inqueue_requests",
        "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        |load| load.waiting,
    ),
    (
        "apiserver_flowcontrol_current_inqueue_seats",
        "Number of seats currently pending in queues of the API Priority and Fairness subsystem",
        |load| load.seats_waiting,
    ),
];

const LEVEL_GAUGES: [LevelGauge; 10] = [
    (
        "apiserver_flowcontrol_nominal_limit_seats",
        "Nominal number of execution seats configured for each priority level",
        |level| level.seats().bounds.nominal.into(),
    ),
    (
        "apiserver_flowcontrol_lower_limit_seats",
        "Configured lower bound on number of execution seats available to each priority level",
        |level| level.seats().bounds.lower.into(),
    ),
    (
        "apiserver_flowcontrol_upper_limit_seats",
        "Configured upper bound on number of execution seats available to each priority level",
        |level| level.seats().bounds.upper.into(),
    ),
    (
        "apiserver_flowcontrol_current_limit_seats",
        "current derived number of execution seats available to each priority level",
        |level| level.seats().current.into(),
    ),
    (
        "apiserver_flowcontrol_demand_seats_high_watermark",
        "High watermark, over last adjustment period, of demand_seats",
        |level| level.seats().demand.period.highest,
    ),
    (
        "apiserver_flowcontrol_demand_seats_average",
        "Time-weighted average, over last adjustment period, of demand_seats",
        |level| level.seats().demand.period.average,
    ),
    (
        "apiserver_flowcontrol_demand_seats_stdev",
        "Time-weighted standard deviation, over last adjustment period, of demand_seats",
        |level| level.seats().demand.period.deviation,
    ),
    ("apiserver_flowcontrol_demand_seats_smoothed", "Smoothed seat demands", |level| level.seats().demand.smoothed),
    ("apiserver_flowcontrol_target_seats", "Seat allocation targets", |level| level.seats().target),
    ("apiserver_flowcontrol_current_r", "R(time of last change)", Level::progress),
];

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(flow_control) = self.0.upgrade() else { return Ok(()) };
        let levels = flow_control.levels();
        let loads: Vec<(FlowLabels, Load)> = flow_control.loads(&levels);
        for (name, help, of) in FLOW_GAUGES {
            let family: Family<FlowLabels, Gauge> = Family::default();
            for (labels, load) in &loads {
                family.get_or_create(labels).set(of(load));
            }
            family.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, of) in LEVEL_GAUGES {
            let family: Family<LevelLabels, Gauge<f64, std::sync::atomic::AtomicU64>> = Family::default();
            for level in &levels {
                family.get_or_create(&LevelLabels { priority_level: level.name.clone() }).set(of(level));
            }
            family.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let fraction: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
        fraction.set(flow_control.fair_fraction());
        let (name, help) = (
            "apiserver_flowcontrol_seat_fair_frac",
            "Fair fraction of server's concurrency to allocate to each priority level that can use it",
        );
        fraction.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
