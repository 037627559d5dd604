//! The node agent: it runs the pods of its node with a container runtime, and tells the API about them.

pub mod agent;
pub mod certificates;
pub mod cgroups;
pub mod config;
pub mod downward;
pub mod env;
pub mod hosts;
pub mod housekeeping;
pub mod images;
pub mod logs;
pub mod node;
pub mod objects;
pub mod options;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod quantity;
pub mod runtime;
pub mod server;
pub mod service;
pub mod sources;
pub mod status_writer;
pub mod volumes;
pub mod worker;
