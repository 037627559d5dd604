//! kubeadm: certificates, kubeconfigs, static pods, init, join and reset.
//!
//! Each phase plans values (files, API objects) from the configuration and what is there; `files` and `client` put them
//! in place.

pub mod certs;
pub mod config;
pub mod constants;
pub mod files;
pub mod kubeconfigs;
pub mod pki;
pub mod static_pods;
