//! The real kubelet on a real containerd. One binary: what the tests share is compiled once.

// The helpers of a test panic as the test does.
#![allow(clippy::unwrap_used)]

mod support;

mod api_pods;
mod certificates;
mod limits;
mod node;
mod pod_specs;
mod probes;
mod resources;
mod static_pods;
