//! The server's metrics, under Kubernetes' names ("Kubernetes Metrics Reference").

use std::time::Duration;

use component_base::metrics::Registry;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::request::RequestInfo;

const REQUESTS: (&str, &str) = (
    "apiserver_request",
    "Counter of apiserver requests broken out for each verb, group, version, resource, scope, component, and HTTP response code",
);
const DURATION: (&str, &str) = (
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component",
);
const TRANSLATED: (&str, &str) = (
    "apiserver_stream_translator_requests",
    "Total number of requests that were handled by the StreamTranslatorProxy, which processes streaming RemoteCommand/V5",
);
const TUNNELLED: (&str, &str) = (
    "apiserver_stream_tunnel_requests",
    "Total number of requests that were handled by the StreamTunnelProxy, which processes streaming PortForward/V2",
);
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 15.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

/// The metrics of requests.
pub struct Metrics {
    pub registry: Registry,
    translated: Family<CodeLabel, Counter>,
    tunnelled: Family<CodeLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let requests = registry.register(REQUESTS, Family::default());
        let durations = registry
            .register(DURATION, Family::<DurationLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS)));
        let translated = registry.register(TRANSLATED, Family::default());
        let tunnelled = registry.register(TUNNELLED, Family::default());
        Metrics { registry, translated, tunnelled, requests, durations }
    }

    /// Counts one exec or attach that was translated, once it is over.
    pub fn translated(&self, code: u16) {
        self.translated.get_or_create(&CodeLabel { code }).inc();
    }

    /// Counts one port-forward that was tunnelled, or refused.
    pub fn tunnelled(&self, code: u16) {
        self.tunnelled.get_or_create(&CodeLabel { code }).inc();
    }

    /// Counts one answered request.
    pub fn observe(&self, info: &RequestInfo, status: StatusCode, elapsed: Duration) {
        if !info.is_resource {
            return;
        }
        let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let labels = DurationLabels {
            verb: info.verb.to_uppercase(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope,
            component: "apiserver",
        };
        if info.verb != "watch" {
            self.durations.get_or_create(&labels).observe(elapsed.as_secs_f64());
        }
        let DurationLabels { verb, group, version, resource, subresource, scope, component } = labels;
        let counted =
            RequestLabels { verb, group, version, resource, subresource, scope, component, code: status.as_u16() };
        self.requests.get_or_create(&counted).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
