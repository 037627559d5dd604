//! The node agent: it runs the pods of its node with a container runtime, and tells the API about them.

pub mod admission;
pub mod agent;
pub mod certificates;
pub mod cgroups;
pub mod clock;
pub mod config;
pub mod downward;
pub mod env;
pub mod eviction;
pub mod hosts;
pub mod housekeeping;
pub mod images;
mod inotify;
pub mod logs;
pub mod metrics;
pub mod node;
pub mod objects;
mod open_files;
pub mod options;
pub mod places;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod quantity;
pub mod runtime;
pub mod server;
pub mod service;
pub mod sources;
pub mod status_writer;
#[cfg(test)]
mod testing;
pub mod volumes;
pub mod worker;
