//! The metrics of webhooks, under Kubernetes' names ("Kubernetes Metrics Reference").

use std::time::Instant;

use component_base::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::call::{Failure, Sort};
use super::hook::Hook;
use crate::{Attributes, Operation};

const REQUESTS: (&str, &str) = (
    "apiserver_admission_webhook_request",
    "Admission webhook request total, identified by name and broken out for each admission type (validating or \
     mutating) and operation",
);
const DURATION: (&str, &str) = (
    "apiserver_admission_webhook_admission_duration_seconds",
    "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API \
     resource and type (validate or admit)",
);
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    code: u16,
    rejected: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

/// The counters of calls. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<CallLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let histogram = || Histogram::new(BUCKETS);
        Metrics {
            requests: registry.register(REQUESTS, Family::default()),
            durations: registry.register(DURATION, Family::new_with_constructor(histogram)),
        }
    }

    /// A call of this type (`admit` or `validating`) begins.
    pub(crate) fn start<'c>(&'c self, sort: &'static str, hook: &'c Hook, a: &Attributes<'_>) -> Call<'c> {
        Call { metrics: self, sort, hook, operation: a.operation, began: Instant::now() }
    }
}

/// A call that is under way.
pub(crate) struct Call<'c> {
    metrics: &'c Metrics,
    sort: &'static str,
    hook: &'c Hook,
    operation: Operation,
    began: Instant,
}

impl Call<'_> {
    pub(crate) fn passed(self) {
        self.ended(200, false);
    }

    pub(crate) fn failed(self, failure: &Failure) {
        let passes = failure.sort == Sort::Call && self.hook.ignores_failures;
        self.ended(failure.error.code(), !passes);
    }

    fn ended(self, code: u16, rejected: bool) {
        let (name, operation) = (self.hook.name.clone(), self.operation.as_str());
        let rejected = if rejected { "true" } else { "false" };
        let labels = DurationLabels { name: name.clone(), r#type: self.sort, operation, rejected };
        self.metrics.durations.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
        self.metrics.requests.get_or_create(&CallLabels { name, r#type: self.sort, operation, code, rejected }).inc();
    }
}
