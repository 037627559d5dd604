//! Rules that more than one kind shares.

pub mod affinity;
pub mod annotations;
pub mod cel;
pub mod container;
pub mod cron;
pub mod dns;
pub mod downward;
pub mod env;
pub mod ip;
pub mod labels;
pub mod meta;
pub mod number;
pub mod pod;
pub mod probe;
pub mod resources;
pub mod security;
pub mod template;
pub mod tolerations;
pub mod volume;
pub mod webhook;
pub mod windows;
