//! Commands that watch end with an exit code of their own when the user interrupts them.

use crate::error::{Error, Result};

/// Does what is to be done until it is done, or until the user interrupts it.
///
/// # Errors
/// Those of what is done, and [`Error::Exit`] when it is interrupted.
pub async fn until<T>(done: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        outcome = done => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Error::Exit(1))
        }
    }
}
