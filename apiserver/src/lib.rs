//! kube-apiserver: the generic API server.

mod accept;
mod admitted;
#[cfg(test)]
mod agreement_tests;
mod allocators;
mod body;
mod compaction;
mod connect;
mod conversion;
mod definitions;
mod discovery;
mod endpoints;
mod flowcontrol;
mod health;
mod hooks;
mod impersonation;
mod kubelet;
mod managed;
mod metrics;
mod negotiate;
mod openapi;
pub mod options;
mod present;
mod request;
mod respond;
mod run;
mod selection;
mod served;
mod server;
mod stored;
#[cfg(test)]
mod testing;

pub use run::{run, run_blocking};
