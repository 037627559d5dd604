//! kube-proxy's metrics, under Kubernetes' names.

use component_base::metrics::Registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const SYNC_DURATION: (&str, &str) =
    ("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds");
pub const SYNC_TIMESTAMP: (&str, &str) =
    ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced");
pub const SYNC_FAILURES: (&str, &str) =
    ("kubeproxy_sync_proxy_rules_nftables_sync_failures", "Cumulative proxy nftables sync failures");

#[derive(Debug, Clone)]
pub struct Metrics {
    duration: Histogram,
    timestamp: Gauge<f64, AtomicU64>,
    failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            timestamp: Gauge::default(),
            failures: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        registry.register(SYNC_DURATION, metrics.duration.clone());
        registry.register(SYNC_TIMESTAMP, metrics.timestamp.clone());
        registry.register(SYNC_FAILURES, metrics.failures.clone());
        metrics
    }

    pub fn synced(&self, took: Duration, applied: bool) {
        self.duration.observe(took.as_secs_f64());
        if !applied {
            self.failures.inc();
        } else if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.timestamp.set(now.as_secs_f64());
        }
    }
}
