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
pub mod passes;
pub mod plugin;
pub mod plugins;
pub mod webhook;

mod means;
mod namespaced;
mod object;
mod policies;
#[cfg(test)]
mod testing;
mod view;
pub mod writer;

pub use attributes::{Attributes, Form, Name, Operation, Request};
pub use chain::Chain;
pub use options::{AdmissionOptions, Context, OptionsError};
pub use plugin::Plugin;
pub use writer::Writer;
