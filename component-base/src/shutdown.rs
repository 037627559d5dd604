//! Orderly ends: signals become a cancellation token, and tasks are drained with a deadline.

use std::collections::HashMap;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Cancelled when the process (or the part that holds a child token) should end. Clones share the state.
pub type Shutdown = CancellationToken;

/// A token that is cancelled by SIGTERM or SIGINT. A second signal ends the process at once with exit code 1.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signals() -> std::io::Result<Shutdown> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let name = next().await;
        tracing::info!(signal = name, "shutting down");
        cancelled.cancel();
        next().await;
        std::process::exit(1);
    });
    Ok(token)
}

/// Tasks with names that are ended together.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<tokio::task::Id, String>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. A panic in it is logged with its name when it is joined.
    pub fn spawn(&mut self, name: impl Into<String>, future: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(future);
        self.names.insert(handle.id(), name.into());
    }

    /// Waits for the next task to end and gives its name and whether it panicked; `None` when there is none left.
    pub async fn next_ended(&mut self) -> Option<(String, bool)> {
        let ended = self.set.join_next_with_id().await?;
        let (id, failed) = match &ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        if failed {
            tracing::error!(task = name, "task panicked");
        }
        Some((name, failed))
    }

    /// Waits for all tasks, which must have been told to end; aborts those that are left at the deadline and returns their names.
    pub async fn drain(mut self, deadline: Duration) -> Vec<String> {
        let all = async { while self.next_ended().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return Vec::new();
        }
        let mut cut: Vec<String> = self.names.values().cloned().collect();
        cut.sort();
        tracing::warn!(tasks = cut.join(","), "tasks were cut at the drain deadline");
        self.set.shutdown().await;
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_names_what_it_cut() {
        let mut tasks = Tasks::new();
        tasks.spawn("quick", async {});
        tasks.spawn("stuck", std::future::pending());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, ["stuck"]);
    }
}
