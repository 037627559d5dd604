//! Webhooks that admit: who configures them, which requests they are asked about, and what becomes of their answers.
//!
//! Kubernetes documentation, "Dynamic Admission Control".
//!
//! Configurations are compiled when they change. A request where there are none costs one look at a pointer.

mod call;
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
