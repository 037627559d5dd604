//! The store on etcd and the watch cache.

pub mod cache;
pub mod codec;
mod error;
pub mod etcd;
pub mod event;
mod feed;
mod freshness;
pub mod keys;
pub mod object;
pub mod reader;
mod recent;
pub mod scan;
mod store;
mod tenure;

pub use cache::{Cache, Snapshot, Term};
pub use error::Error;
pub use etcd::Etcd;
pub use event::{Event, Lagged, Scope, Watcher};
pub use object::Object;
pub use store::{Listed, Store, Written};
pub use tenure::Mode;
