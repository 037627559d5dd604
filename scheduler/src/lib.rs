//! kube-scheduler: the scheduling framework and its plugins.
//!
//! One task owns the whole state (`Scheduler`: the cache of nodes and pods, and the queue). It takes what the API's
//! watches and the binding tasks report, between two scheduling cycles, so a cycle sees a cluster that stands still
//! without copying it: the cache *is* the snapshot.

pub mod affinity;
pub mod cache;
pub mod config;
pub mod cycle;
pub mod diagnosis;
pub mod framework;
pub mod groups;
pub mod labels;
pub mod metrics;
pub mod node;
pub mod options;
pub mod plugins;
pub mod pod;
pub mod quantity;
pub mod queue;
pub mod resources;
pub mod scheduler;
pub mod selector;
pub mod service;
pub mod spread;
pub mod tally;
pub mod testing;
