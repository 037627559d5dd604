//! The OpenAPI documents of what is served.

use apimachinery::ApiError;
use http::{HeaderMap, Response};

use crate::body::Body;
use crate::server::unknown_path;

/// The documents, made on first use.
#[derive(Default)]
pub struct Documents {}

impl Documents {
    pub fn answer(&self, _path: &str, _headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
        Ok(unknown_path())
    }
}
