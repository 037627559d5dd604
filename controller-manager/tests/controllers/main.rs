//! The controllers against a real API server on a real etcd, with TLS, RBAC and each controller's own service account.

mod fixture;
mod fleet;

mod batch;
mod objects;
mod policy;
mod stateful;
mod workloads;
