//! The store on etcd and the watch cache.

pub mod reader;
