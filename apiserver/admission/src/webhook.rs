//! Webhooks that admit: who configures them, which requests they are asked about, and what becomes of their answers.
//!
//! Kubernetes documentation, "Dynamic Admission Control".
//!
//! Configurations are compiled when they change. A request where there are none costs one look at a pointer.

mod call;
mod conditions;
mod configuration;
mod hook;
mod hooks;
mod matching;
mod metrics;
mod review;
mod services;

pub use call::{Failure, Sort};
pub use configuration::{Configuration, KINDS};
pub use hook::Hook;
pub use hooks::Hooks;
pub(crate) use matching::Matching;
pub use metrics::Metrics;
pub use services::Services;

/// The group of configurations, and of admission policies.
pub(crate) const GROUP: &str = "admissionregistration.k8s.io";

/// Resources that decide about admission: nothing that admits is asked about them, or a cluster could lock itself up.
const EXEMPT: [&str; 6] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Whether a request is about an object that decides about admission.
pub fn is_exempt(a: &crate::Attributes<'_>) -> bool {
    a.resource.group == GROUP && EXEMPT.contains(&a.resource.resource.as_str())
}
