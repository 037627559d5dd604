//! Where pods come from: files, a URL, the API.

pub mod api;
pub mod file;
pub mod http;
pub mod static_pod;
