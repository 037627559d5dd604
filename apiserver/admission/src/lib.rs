//! The admission chain and its built-in plugins.
//!
//! Kubernetes documentation, "Admission Control in Kubernetes".

pub mod attributes;
mod catalog;
pub mod chain;
pub mod conditions;
pub mod configuration;
pub mod matching;
pub mod options;
pub mod plugin;
pub mod plugins;

mod namespaced;
mod object;
mod policies;
#[cfg(test)]
mod testing;
pub mod writer;

pub use attributes::{Attributes, Operation};
pub use chain::Chain;
pub use options::{AdmissionOptions, Context, OptionsError};
pub use plugin::Plugin;
pub use writer::Writer;
