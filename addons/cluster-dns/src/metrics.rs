//! cluster-dns's metrics, under the names that dashboards know.

use crate::answer::Transport;
use component_base::metrics::Registry;
use hickory_proto::op::ResponseCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

pub const RESPONSES: (&str, &str) = ("coredns_dns_responses", "Counter of response status codes");

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    proto: &'static str,
    rcode: String,
}

#[derive(Clone, Default)]
pub struct Metrics {
    responses: Family<Labels, Counter>,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        registry.register(RESPONSES, metrics.responses.clone());
        metrics
    }

    pub fn answered(&self, transport: Transport, code: ResponseCode) {
        let proto = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let rcode = match code {
            ResponseCode::NoError => "NOERROR".into(),
            ResponseCode::NXDomain => "NXDOMAIN".into(),
            ResponseCode::ServFail => "SERVFAIL".into(),
            ResponseCode::Refused => "REFUSED".into(),
            ResponseCode::FormErr => "FORMERR".into(),
            ResponseCode::NotImp => "NOTIMP".into(),
            other => u16::from(other).to_string(),
        };
        self.responses.get_or_create(&Labels { proto, rcode }).inc();
    }
}
