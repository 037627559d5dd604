//! kube-controller-manager: the controllers on one runner.
//!
//! # How to add a controller
//! 1. Give it a file (`name.rs`, with a folder `name/` when it has parts). The deciding half is a pure `plan(wanted, observed, now)` that gives actions; the
//!    other half implements [`component_base::runner::Controller`]: it reads the shared caches, calls `plan`, carries the actions out and decides nothing.
//! 2. Write its start function, `pub async fn start(ctx: Context) -> Result<(), Error>`: take informers from `ctx.informers` (one watch per resource for the
//!    whole process), let handlers put keys on a `WorkQueue`, wait for `synced()`, then `ctx.run(controller, queue, workers).await`. Write through
//!    `ctx.client("service-account-name").await`, which has that service account's rights and no more.
//! 3. Add a row to [`controllers::CONTROLLERS`], with upstream's name and short name, and the module below.
//! 4. Test `plan` as a table beside it, and the controller against a real API server in `tests/`.

pub mod context;
pub mod controllers;
pub mod credentials;
pub mod options;
pub mod service;

pub mod children;
pub mod expectations;
pub mod history;
pub mod intstr;
pub mod ownership;
pub mod podcontrol;
pub mod pods;
pub mod writes;

pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod job;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod podgc;
pub mod policy_status;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod statefulset;
pub mod taint_eviction;
pub mod ttl_after_finished;

mod service_pods;

pub mod bootstrap;
pub mod certificates;
pub mod clusterrole_aggregation;
pub mod discovery;
pub mod garbage_collector;
pub mod namespace;
pub mod root_ca_publisher;
pub mod service_cidr;
pub mod serviceaccount;
pub mod serviceaccount_token;
