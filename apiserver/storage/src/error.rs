//! What can go wrong between the apiserver and etcd, and how it is answered.

use apimachinery::ApiError;
use apimachinery::status::Reason;

/// A failure of the store that is not the client's conflict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// etcd did not answer in time, or cannot be reached.
    #[error("etcd is not available: {0}")]
    Unavailable(String),
    /// The revision asked for has been compacted.
    #[error("the requested revision has been compacted")]
    Compacted,
    /// The value is larger than etcd takes in one request.
    #[error("the object is larger than etcd accepts")]
    TooLarge,
    /// etcd refused the request.
    #[error("etcd: {0}")]
    Etcd(String),
    /// A stored value cannot be read.
    #[error("the stored value at {key} cannot be read: {reason}")]
    Corrupt { key: String, reason: String },
    /// The cache did not reach the revision in time.
    #[error("the watch cache has not reached revision {wanted} yet")]
    Behind { wanted: i64, current: i64 },
}

impl From<etcd_client::Error> for Error {
    fn from(error: etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = &error else {
            return Error::Unavailable(error.to_string());
        };
        let message = status.message();
        if message.contains("has been compacted") {
            Error::Compacted
        } else if message.contains("too large") || message.contains("message larger than max") {
            Error::TooLarge
        } else if matches!(status.code() as i32, 4 | 14 | 1) {
            Error::Unavailable(message.to_owned())
        } else {
            Error::Etcd(message.to_owned())
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) => ApiError::unavailable(error.to_string()).retry_after(1),
            Error::Compacted => ApiError::expired("The resourceVersion for the provided list is too old."),
            Error::TooLarge => ApiError::new(Reason::RequestEntityTooLarge, error.to_string()),
            Error::Etcd(_) | Error::Corrupt { .. } => ApiError::internal(error),
            Error::Behind { wanted, current } => {
                ApiError::timeout(format!("Too large resource version: {wanted}, current: {current}"))
                    .with_cause("ResourceVersionTooLarge", "", "Too large resource version")
                    .retry_after(1)
            }
        }
    }
}
