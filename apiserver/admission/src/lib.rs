//! The admission chain and its built-in plugins.
//!
//! Kubernetes documentation, "Admission Control in Kubernetes".

pub mod attributes;
pub mod chain;
pub mod options;
pub mod plugin;
pub mod plugins;

mod object;
#[cfg(test)]
mod testing;

pub use attributes::{Attributes, Operation};
pub use chain::Chain;
pub use options::{AdmissionOptions, Context, OptionsError};
pub use plugin::Plugin;
