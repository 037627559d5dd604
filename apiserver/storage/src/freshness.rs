//! Consistent reads from the cache: ask etcd for its revision, and wait until the cache has reached it. A server that is the only
//! one that may write knows without asking.
//!
//! Requests that arrive while a question is under way share the next one: a question only counts for requests that were
//! there before it was asked.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::error::Error;
use crate::etcd::Etcd;
use crate::tenure::Tenure;

/// How long a read waits for the cache to reach a revision.
pub const WAIT: Duration = Duration::from_secs(3);
/// When the cache has not reached etcd's revision after this time, something outside of the prefix was written: the
/// store writes a key of its own to get past it.
const TOUCH_AFTER: Duration = Duration::from_millis(25);

/// How often a question waits for more to join, at most.
const GATHER_ROUNDS: usize = 8;

type Answer = Result<i64, String>;

/// Asks etcd for its revision on behalf of many.
#[derive(Clone)]
pub struct Freshness {
    shared: Arc<Shared>,
    cache: Arc<Cache>,
    etcd: Etcd,
    tenure: Arc<Tenure>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Vec<oneshot::Sender<Answer>>>,
    bell: Notify,
    touching: tokio::sync::Mutex<()>,
}

impl Freshness {
    pub fn new(cache: Arc<Cache>, etcd: Etcd, tenure: Arc<Tenure>) -> Self {
        Freshness { shared: Arc::default(), cache, etcd, tenure }
    }

    /// Asks questions until shutdown, one at a time: while one is under way, those who come wait together for the next.
    pub async fn run(self, shutdown: CancellationToken) {
        let questions = async {
            loop {
                self.shared.bell.notified().await;
                self.gather().await;
                self.ask().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = questions => {}
        }
    }

    /// Lets whoever is ready to run now join the question: etcd's answer costs more than all of them.
    async fn gather(&self) {
        let mut joined = 0;
        for _ in 0..GATHER_ROUNDS {
            tokio::task::yield_now().await;
            let now = self.shared.waiting.lock().len();
            if now == joined {
                break;
            }
            joined = now;
        }
    }

    async fn ask(&self) {
        let waiting = std::mem::take(&mut *self.shared.waiting.lock());
        if waiting.is_empty() {
            return;
        }
        let answer = self.etcd.revision().await.map_err(|error| error.to_string());
        for waiter in waiting {
            // A receiver that is gone no longer wants the answer.
            drop(waiter.send(answer.clone()));
        }
    }

    /// Waits until the cache holds everything that was written before this call.
    pub async fn consistent(&self) -> Result<(), Error> {
        match self.tenure.known() {
            Some(revision) => self.at_least(revision).await,
            None => self.asked().await,
        }
    }

    async fn asked(&self) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting.lock().push(sender);
        self.shared.bell.notify_one();
        let answer = receiver.await.map_err(|_| Error::Unavailable("shutting down".into()))?;
        let revision = answer.map_err(Error::Unavailable)?;
        if self.cache.revision() >= revision {
            return Ok(());
        }
        if let Ok(reached) = tokio::time::timeout(TOUCH_AFTER, self.reach(revision)).await {
            return reached;
        }
        self.touch(revision).await?;
        self.at_least(revision).await
    }

    /// Waits until the cache has reached a revision that the client has seen.
    pub async fn at_least(&self, revision: i64) -> Result<(), Error> {
        if self.cache.revision() >= revision {
            return Ok(());
        }
        match tokio::time::timeout(WAIT, self.reach(revision)).await {
            Ok(reached) => reached,
            Err(_) => Err(Error::Behind { wanted: revision, current: self.cache.revision() }),
        }
    }

    async fn reach(&self, revision: i64) -> Result<(), Error> {
        let mut revisions = self.cache.revisions();
        let reached = revisions.wait_for(|current| *current >= revision).await;
        reached.map(|_| ()).map_err(|_| Error::Unavailable("shutting down".into()))
    }

    async fn touch(&self, revision: i64) -> Result<(), Error> {
        let _one_at_a_time = self.shared.touching.lock().await;
        if self.cache.revision() >= revision { Ok(()) } else { self.etcd.touch().await }
    }
}
