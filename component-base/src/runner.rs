//! The one runner of all controllers: it owns workers, backoff, metrics and the reconcile id. Event handlers only add keys to the
//! controller's [`WorkQueue`]; a reconcile reads caches, and would be right even if it ran twice.

use std::fmt::Display;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;
use tracing::Instrument;

use crate::client;
use crate::metrics::{Registry, names};
use crate::queue::WorkQueue;
use crate::shutdown::Shutdown;

/// Why a reconcile failed; `?` makes it from any error. The key comes back with backoff.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// When a reconciled key is looked at again without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Only when something changes.
    No,
    /// After this time, whatever happens.
    After(Duration),
    /// With the key's backoff, as if it had failed, but in silence.
    Backoff,
}

/// One controller: how to bring the world of one key nearer to what is wanted.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// What the queue holds, [`crate::informer::Key`] for most.
    type Key: Clone + Eq + Hash + Display + Send + Sync + 'static;

    /// The controller's name as in `--controllers` and metrics.
    fn name(&self) -> &'static str;

    /// Looks at one key. It is never called for the same key twice at a time.
    async fn reconcile(&self, key: &Self::Key) -> Result<Requeue, Error>;
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabel {
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    controller: &'static str,
    result: &'static str,
}

/// The metrics of all controllers of a process; register once.
#[derive(Clone)]
pub struct Metrics {
    depth: Family<QueueLabel, Gauge>,
    retries: Family<QueueLabel, Counter>,
    reconciles: Family<ResultLabel, Counter>,
    duration: Family<QueueLabel, Histogram, fn() -> Histogram>,
}

fn work_duration() -> Histogram {
    Histogram::new([0.001, 0.01, 0.1, 1.0, 10.0])
}

impl Metrics {
    /// Registers the runner's metrics.
    pub fn register(registry: &Registry) -> Self {
        Self {
            depth: registry.register(names::WORKQUEUE_DEPTH, Family::default()),
            retries: registry.register(names::WORKQUEUE_RETRIES, Family::default()),
            reconciles: registry.register(names::RECONCILES, Family::default()),
            duration: registry
                .register(names::WORK_DURATION, Family::new_with_constructor(work_duration as fn() -> Histogram)),
        }
    }
}

/// The next reconcile's id, unique in the process.
static RECONCILE_ID: AtomicU64 = AtomicU64::new(1);

/// Runs a controller with `workers` concurrent reconciles until shutdown, and then until the running ones have ended.
/// A reconcile that panics counts as failed.
pub async fn run<C: Controller>(
    controller: Arc<C>,
    queue: WorkQueue<C::Key>,
    workers: usize,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    tracing::info!(controller = controller.name(), workers, "controller started");
    let work = (0..workers.max(1)).map(|_| work(&*controller, &queue, &metrics));
    let end = async {
        shutdown.cancelled().await;
        queue.close();
    };
    futures::join!(futures::future::join_all(work), end);
    tracing::info!(controller = controller.name(), "controller stopped");
}

async fn work<C: Controller>(controller: &C, queue: &WorkQueue<C::Key>, metrics: &Metrics) {
    let label = QueueLabel { name: controller.name() };
    while let Some(key) = queue.get().await {
        metrics.depth.get_or_create(&label).set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
        let started = Instant::now();
        let id = RECONCILE_ID.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!("reconcile", controller = controller.name(), %key, id);
        let outcome = AssertUnwindSafe(controller.reconcile(&key)).catch_unwind().instrument(span).await;
        metrics.duration.get_or_create(&label).observe(started.elapsed().as_secs_f64());
        let result = settle(controller, queue, &key, outcome);
        if result == "error" || result == "requeue" {
            metrics.retries.get_or_create(&label).inc();
        }
        metrics.reconciles.get_or_create(&ResultLabel { controller: controller.name(), result }).inc();
        queue.done(&key);
    }
}

/// Puts the key where its outcome wants it, and names the outcome for the metrics.
fn settle<C: Controller>(
    controller: &C,
    queue: &WorkQueue<C::Key>,
    key: &C::Key,
    outcome: std::thread::Result<Result<Requeue, Error>>,
) -> &'static str {
    match outcome {
        Ok(Ok(Requeue::No)) => {
            queue.forget(key);
            "success"
        }
        Ok(Ok(Requeue::After(delay))) => {
            queue.forget(key);
            queue.add_after(key.clone(), delay);
            "requeue_after"
        }
        Ok(Ok(Requeue::Backoff)) => {
            queue.add_rate_limited(key.clone());
            "requeue"
        }
        Ok(Err(error)) => {
            queue.add_rate_limited(key.clone());
            report(controller.name(), key, &error);
            "error"
        }
        Err(_) => {
            queue.add_rate_limited(key.clone());
            tracing::error!(controller = controller.name(), %key, "reconcile panicked");
            "panic"
        }
    }
}

/// A conflict only says that the cache was behind; it is no news to a person.
fn report(controller: &str, key: &impl Display, error: &Error) {
    let conflict = error.downcast_ref::<kube::Error>().is_some_and(client::is_conflict);
    if conflict {
        tracing::debug!(controller, %key, %error, "reconcile met a newer object, will retry");
    } else {
        tracing::warn!(controller, %key, error = chain(error.as_ref()), "reconcile failed, will retry");
    }
}

/// An error with all its sources, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    struct Flaky {
        calls: Mutex<Vec<(String, Duration)>>,
        started: Instant,
    }

    #[async_trait]
    impl Controller for Flaky {
        type Key = String;

        fn name(&self) -> &'static str {
            "flaky"
        }

        async fn reconcile(&self, key: &String) -> Result<Requeue, Error> {
            let calls = {
                let mut calls = self.calls.lock();
                calls.push((key.clone(), self.started.elapsed()));
                calls.len()
            };
            match calls {
                1 => Err("first".into()),
                2 => panic!("second"),
                3 => Ok(Requeue::After(Duration::from_secs(7))),
                _ => Ok(Requeue::No),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_come_back_with_backoff() {
        let queue = WorkQueue::new();
        let controller = Arc::new(Flaky { calls: Mutex::default(), started: Instant::now() });
        let shutdown = Shutdown::new();
        let metrics = Metrics::register(&Registry::new());
        let running = tokio::spawn(run(Arc::clone(&controller), queue.clone(), 2, metrics.clone(), shutdown.clone()));
        queue.add("ns/a".to_owned());
        tokio::time::sleep(Duration::from_secs(60)).await;
        shutdown.cancel();
        running.await.unwrap();
        let at: Vec<u128> = controller.calls.lock().iter().map(|(_, at)| at.as_millis()).collect();
        assert_eq!(at, [0, 5, 15, 7015]);
        let succeeded = ResultLabel { controller: "flaky", result: "success" };
        assert_eq!(metrics.reconciles.get_or_create(&succeeded).get(), 1);
    }
}
