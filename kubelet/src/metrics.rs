//! The kubelet's metrics that are counted, with their names and help texts.

use component_base::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// A counter's name stands without its `_total`, which the encoder adds.
pub const PROBES: (&str, &str) =
    ("prober_probe", "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result");

/// Which probe of which container, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Probe {
    pub probe_type: &'static str,
    pub result: &'static str,
    pub container: String,
    pub pod: String,
    pub namespace: String,
    pub pod_uid: String,
}

impl Probe {
    pub const SUCCESSFUL: &'static str = "successful";
    pub const FAILED: &'static str = "failed";
    pub const UNKNOWN: &'static str = "unknown";
}

/// What is counted. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    /// Shown at `/metrics/probes`.
    pub of_probes: Registry,
    probes: Family<Probe, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let of_probes = Registry::new();
        let probes = of_probes.register(PROBES, Family::default());
        Self { of_probes, probes }
    }
}

impl Metrics {
    pub fn probed(&self, probe: &Probe) {
        self.probes.get_or_create(probe).inc();
    }

    /// The probe's container is gone.
    pub fn forget(&self, probe: &Probe) {
        for result in [Probe::SUCCESSFUL, Probe::FAILED, Probe::UNKNOWN] {
            self.probes.remove(&Probe { result, ..probe.clone() });
        }
    }
}
