//! Strategies: defaulting, validation and printing of every built-in resource.
//!
//! All of it is pure: objects are values, time is an argument, and nothing is read but what is passed in.

mod defaults;
mod kinds;
mod node;
mod rules;
mod strategy;
mod table;

pub use strategy::Strategy;
pub use table::{custom, strategy};
