//! Charging quotas. The requests of a namespace that wait at the same time are charged together, in one write per quota; the
//! write takes place only if the quota is as it was read, so that servers cannot charge past each other.

use std::collections::HashMap;
use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_auth::clock::Clock;
use apiserver_storage::reader::Reader;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use super::QUOTAS;
use super::configuration::Limited;
use super::evaluate::{Quota, check, with_used};
use super::request::Request;
use crate::Writer;
use crate::writer::Outcome;

/// How often a quota is charged again that others have written meanwhile.
const MAX_TRIES: usize = 10;

/// Why a request cannot be done.
#[derive(Clone)]
pub(super) enum Refusal {
    Forbidden(String),
    Failed(ApiError),
}

struct Job {
    request: Request,
    dry_run: bool,
    done: oneshot::Sender<Result<(), Refusal>>,
}

impl Job {
    fn finish(self, result: Result<(), Refusal>) {
        if self.done.send(result).is_err() {
            tracing::debug!("a request went away while its quotas were charged");
        }
    }
}

/// The quotas that were written here last, by name; the cache may not know them yet.
type Own = HashMap<String, Arc<Value>>;

#[derive(Default)]
struct Namespace {
    waiting: Mutex<Vec<Job>>,
    /// Held by the one who charges.
    turn: tokio::sync::Mutex<Own>,
}

/// A quota, and the object that it was read from.
struct Known {
    object: Arc<Value>,
    quota: Quota,
}

impl Known {
    fn of(object: Arc<Value>) -> Result<Self, Refusal> {
        let quota = Quota::of(&object).map_err(|error| Refusal::Failed(ApiError::internal(error)))?;
        Ok(Known { object, quota })
    }
}

pub(super) struct Charges {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
    clock: Clock,
    limited: Vec<Limited>,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

impl Charges {
    pub(super) fn new(reader: Arc<dyn Reader>, writer: Arc<dyn Writer>, clock: Clock, limited: Vec<Limited>) -> Self {
        Charges { reader, writer, clock, limited, namespaces: Mutex::default() }
    }

    /// Whether requests are of interest in namespaces without a quota too.
    pub(super) fn limits_without_quota(&self) -> bool {
        !self.limited.is_empty()
    }

    /// Charges the quotas of the namespace for a request, if it fits into all of them.
    pub(super) async fn charge(
        self: &Arc<Self>,
        namespace: &str,
        request: Request,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let (done, result) = oneshot::channel();
        let own = Arc::clone(self.namespaces.lock().entry(namespace.to_owned()).or_default());
        own.waiting.lock().push(Job { request, dry_run, done });
        let (charges, name) = (Arc::clone(self), namespace.to_owned());
        // A task of its own: it may charge for others, who must not lose by this request's going away.
        tokio::spawn(async move { charges.take_turn(&name, own).await });
        result.await.unwrap_or_else(|error| Err(Refusal::Failed(ApiError::internal(error))))
    }

    async fn take_turn(&self, name: &str, namespace: Arc<Namespace>) {
        let mut own = namespace.turn.lock().await;
        let jobs = std::mem::take(&mut *namespace.waiting.lock());
        if !jobs.is_empty() {
            self.charge_all(name, &mut own, jobs).await;
        }
        drop(own);
        let mut namespaces = self.namespaces.lock();
        // Two: the map's and this one's. Nobody else waits.
        if Arc::strong_count(&namespace) == 2 {
            namespaces.remove(name);
        }
    }

    /// The quotas as they are here.
    fn known(&self, namespace: &str, own: &mut Own) -> Result<Vec<Known>, Refusal> {
        let cached = self.reader.list(QUOTAS, Some(namespace));
        own.retain(|name, _| cached.iter().any(|quota| meta::name(quota) == name));
        let newest = |cached: Arc<Value>| match own.get(meta::name(&cached)) {
            Some(own) if revision(own) > revision(&cached) && meta::uid(own) == meta::uid(&cached) => Arc::clone(own),
            _ => cached,
        };
        cached.into_iter().map(newest).map(Known::of).collect()
    }

    async fn charge_all(&self, namespace: &str, own: &mut Own, jobs: Vec<Job>) {
        let mut quotas = match self.known(namespace, own) {
            Ok(quotas) => quotas,
            Err(refusal) => return finish(jobs, &Err(refusal)),
        };
        let (mut jobs, mut limited) = (jobs, self.limited.as_slice());
        for _ in 0..MAX_TRIES {
            let running;
            (jobs, running) = self.admit(&quotas, jobs, limited);
            match self.write(quotas, running, own).await {
                Ok(left) if left.is_empty() => return finish(jobs, &Ok(())),
                Ok(left) => quotas = left,
                Err(refusal) => return finish(jobs, &Err(refusal)),
            }
            // The others are charged already, and have been found to cover what must be covered.
            limited = &[];
        }
        let name = quotas.first().map_or("", |known| known.quota.name.as_str());
        finish(jobs, &Err(Refusal::Failed(ApiError::modified("", "resourcequotas", name))));
    }

    /// Answers those that cannot be done, and those that cost nothing. Left are those that wait for a write, and what the quotas
    /// have used after them.
    fn admit(&self, quotas: &[Known], jobs: Vec<Job>, limited: &[Limited]) -> (Vec<Job>, Vec<Quota>) {
        let mut running: Vec<Quota> = quotas.iter().map(|known| known.quota.clone()).collect();
        let mut waiting = Vec::new();
        for job in jobs {
            match check(&running, &job.request, limited, (self.clock)()) {
                Err(detail) => job.finish(Err(Refusal::Forbidden(detail))),
                Ok(charges) if charges.is_empty() || job.dry_run => job.finish(Ok(())),
                Ok(charges) => {
                    for (at, used) in charges {
                        running[at].used = used;
                    }
                    waiting.push(job);
                }
            }
        }
        (waiting, running)
    }

    /// Writes the quotas that have changed, in the order of their names, up to the first that others have written meanwhile. That
    /// one as it is now, and those after it, are returned: they are still to be charged.
    async fn write(&self, quotas: Vec<Known>, running: Vec<Quota>, own: &mut Own) -> Result<Vec<Known>, Refusal> {
        let mut left = quotas.into_iter().zip(running);
        while let Some((known, after)) = left.next() {
            if known.quota.used == after.used {
                continue;
            }
            let object = with_used(&known.object, &after.used);
            match self.writer.write(QUOTAS, &object).await.map_err(Refusal::Failed)? {
                Outcome::Done(object) => {
                    own.insert(after.name, object);
                }
                Outcome::Conflict(Some(object)) => {
                    let first = Known::of(object)?;
                    return Ok(std::iter::once(first).chain(left.map(|(known, _)| known)).collect());
                }
                // A quota that is gone limits nothing.
                Outcome::Conflict(None) => {}
            }
        }
        Ok(Vec::new())
    }
}

fn finish(jobs: Vec<Job>, result: &Result<(), Refusal>) {
    jobs.into_iter().for_each(|job| job.finish(result.clone()));
}

fn revision(object: &Value) -> i64 {
    meta::resource_version(object).parse().unwrap_or(0)
}
