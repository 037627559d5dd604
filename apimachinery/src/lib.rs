//! The Kubernetes API as data: schema, codecs, metadata, selectors, quantities, patches and errors; no I/O.

pub mod field;
pub mod status;

pub use status::{ApiError, Reason, Status};
