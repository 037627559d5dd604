//! The Kubernetes API as data: schema, codecs, metadata, selectors, quantities, patches and errors; no I/O.

pub mod codec;
pub mod field;
pub mod fields;
pub mod labels;
pub mod managed_fields;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod status;
pub mod time;
pub mod tree;
pub mod version;

pub use quantity::Quantity;
pub use schema::Schema;
pub use status::{ApiError, Reason, Status};
