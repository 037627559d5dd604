//! The node as an object of the API: what it has, how it does, and that it lives.

pub mod facts;
pub mod lease;
pub mod register;
pub mod status;
