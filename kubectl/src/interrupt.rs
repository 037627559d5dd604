//! Commands that go on end with an exit code of their own when the user interrupts them.

use crate::error::{Error, Result};

/// Does what is to be done until it is done, or until the user interrupts it.
///
/// # Errors
/// Those of what is done, and [`Error::Exit`] when it is interrupted.
pub async fn until<T>(done: impl Future<Output = Result<T>>) -> Result<T> {
    or(done, Err(Error::Exit(1))).await
}

/// As [`until`], for what is meant to be interrupted.
///
/// # Errors
/// Those of what is done.
pub async fn ends(done: impl Future<Output = Result<()>>) -> Result<()> {
    or(done, Ok(())).await
}

async fn or<T>(done: impl Future<Output = Result<T>>, interrupted: Result<T>) -> Result<T> {
    tokio::select! {
        biased;
        outcome = done => outcome,
        signal = tokio::signal::ctrl_c() => {
            signal?;
            interrupted
        }
    }
}
