//! The three kinds of patches that are not server-side apply.
//!
//! "Update API Objects in Place Using kubectl patch"; RFC 6902, RFC 7386, and Kubernetes' strategic merge patch. A patch is applied
//! to the object as JSON; the result goes through [`crate::codec::conform`] like any other body.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::{ApiError, Reason};

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not one.
    #[error("{0}")]
    Malformed(String),
    /// A JSON patch of more operations than are allowed.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {count}")]
    TooManyOperations { count: usize, max: usize },
    /// A JSON patch that copies more than is allowed.
    #[error("unable to complete copy: the accumulated size increase of copy operations exceeds the limit of {0} bytes")]
    CopiesTooMuch(usize),
    /// The patch is good, and does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        let text = error.to_string();
        match error {
            PatchError::Malformed(_) => ApiError::bad_request(text),
            PatchError::TooManyOperations { .. } => {
                ApiError::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {text}"))
            }
            PatchError::CopiesTooMuch(_) | PatchError::DoesNotApply(_) => ApiError::new(
                Reason::Invalid,
                format!("the server rejected our request due to an error in our request: {text}"),
            ),
        }
    }
}
