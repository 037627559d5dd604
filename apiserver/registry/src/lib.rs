//! Strategies: defaulting, validation and printing of every built-in resource.
//!
//! All of it is pure: objects are values, time is an argument, and nothing is read but what is passed in.

pub mod custom;
mod defaults;
mod kinds;
mod node;
pub mod printers;
mod rules;
pub mod scale;
mod strategy;
mod table;
mod warnings;

/// Rules of the subresources that are not a kind's own.
pub mod subresources {
    pub use crate::kinds::namespace::validate_finalize;
    pub use crate::kinds::pod_subresources::{
        bind, is_gated, prepare_for_ephemeral_containers, prepare_for_resize, validate_binding,
        validate_ephemeral_containers, validate_resize,
    };
    pub use crate::kinds::small::validate_approval;
}

/// What allocating the addresses and node ports of Services needs to know of their rules.
pub mod services {
    pub use crate::kinds::service::{
        keep_allocated, needs_health_check, normalize_cluster_ips, validate_cluster_ip_fields,
    };
}

pub use kinds::pod::qos_class;
pub use strategy::Strategy;
pub use table::strategy;
