//! kubeadm: certificates, kubeconfigs, static pods, init, join and reset.
//!
//! Each phase plans values (files, API objects) from the configuration and what is there; `files` and `api` put them
//! in place.

pub mod addons;
pub mod api;
pub mod certs;
pub mod commands;
pub mod config;
pub mod constants;
pub mod files;
pub mod init;
pub mod join;
pub mod kubeconfigs;
pub mod kubelet;
pub mod objects;
pub mod options;
pub mod pki;
pub mod static_pods;
pub mod tokens;
