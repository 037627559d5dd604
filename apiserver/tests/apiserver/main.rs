//! The real kube-apiserver on a real etcd. One binary: what the tests share is compiled once.

mod admission;
mod apply;
mod bad_input;
mod custom_resource_clients;
mod custom_resources;
mod flowcontrol;
mod old_kubectl;
mod policies;
mod reference;
mod services;
mod warnings;
mod webhooks;
