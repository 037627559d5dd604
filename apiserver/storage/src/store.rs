//! The store: conditional writes to etcd, reads from the watch cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apimachinery::ApiError;
use async_trait::async_trait;
use etcd_client::{PutOptions, TxnOp};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Snapshot};
use crate::codec::ValueCodec;
use crate::error::Error;
use crate::etcd::{Etcd, Outcome, Stored};
use crate::feed::{self, Feed};
use crate::freshness::Freshness;
use crate::keys;
use crate::object::Object;
use crate::reader::{GroupResource, Reader};
use crate::recent::Recent;
use crate::tenure::{Keeper, Mode, PATIENCE, Tenure};

/// How long a snapshot is kept for the following pages of a list.
const SNAPSHOT_LIFE: Duration = Duration::from_secs(300);
/// How many snapshots are kept at most; older pages are read from etcd.
const MAX_SNAPSHOTS: usize = 16;

/// How a conditional write ended.
pub enum Written {
    Done(Arc<Object>),
    /// The object was changed meanwhile; this is what is there, if anything.
    Conflict(Option<Arc<Object>>),
}

/// One page of a list at one revision.
pub struct Listed {
    pub items: Vec<Arc<Object>>,
    pub revision: i64,
    /// The key that the next page starts at, where there is more.
    pub next: Option<String>,
}

/// Snapshots by revision, with when they were last asked for.
type Snapshots = BTreeMap<i64, (Instant, Arc<Snapshot>)>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    etcd: Etcd,
    cache: Arc<Cache>,
    freshness: Freshness,
    codec: Arc<dyn ValueCodec>,
    snapshots: Arc<Mutex<Snapshots>>,
    tenure: Arc<Tenure>,
    recent: Arc<Recent>,
}

impl Store {
    /// A store on etcd with an empty cache; [`Store::run`] fills it.
    pub fn new(etcd: Etcd, codec: Arc<dyn ValueCodec>) -> Self {
        let cache = Arc::new(Cache::default());
        let tenure = Arc::<Tenure>::default();
        let freshness = Freshness::new(cache.clone(), etcd.clone(), tenure.clone());
        Store { etcd, cache, freshness, codec, snapshots: Arc::default(), tenure, recent: Arc::default() }
    }

    /// The watch cache.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The connection to etcd.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Feeds the cache, answers for its freshness and takes part in the agreement on who may write, until shutdown. `server` is
    /// this server's name: that of no other process that is alive.
    pub async fn run(self, server: String, shutdown: CancellationToken) {
        let (etcd, cache, tenure) = (self.etcd.clone(), self.cache.clone(), self.tenure.clone());
        let keeper = Keeper { etcd: etcd.clone(), cache: cache.clone(), tenure, server };
        let feed = Feed { etcd, cache, codec: self.codec.clone(), recent: self.recent.clone() };
        tokio::join!(feed.run(shutdown.clone()), self.freshness.clone().run(shutdown.clone()), keeper.run(shutdown));
    }

    /// Waits until the cache is filled for the first time.
    pub async fn ready(&self) {
        let mut revisions = self.cache.revisions();
        // The sender lives in the cache that `self` holds.
        drop(revisions.wait_for(|revision| *revision > 0).await);
    }

    /// Waits until the cache holds everything that was written before this call.
    pub async fn consistent(&self) -> Result<(), Error> {
        self.freshness.consistent().await
    }

    /// The revision that holds every write there is, where that is known without asking.
    pub fn known(&self) -> Option<i64> {
        self.tenure.known()
    }

    /// Announces what this server may write under.
    pub fn modes(&self) -> watch::Receiver<Mode> {
        self.tenure.modes()
    }

    /// Waits until the cache has reached a revision that a client has seen.
    pub async fn at_least(&self, revision: i64) -> Result<(), Error> {
        self.freshness.at_least(revision).await
    }

    /// Creates the object when the key does not exist.
    pub async fn create(&self, key: &str, json: Vec<u8>, ttl: Option<Duration>) -> Result<Written, Error> {
        self.put(key, json, 0, ttl).await
    }

    /// Replaces the object when its revision is `expected`.
    pub async fn update(
        &self,
        key: &str,
        json: Vec<u8>,
        expected: i64,
        ttl: Option<Duration>,
    ) -> Result<Written, Error> {
        self.put(key, json, expected, ttl).await
    }

    async fn put(&self, key: &str, json: Vec<u8>, expected: i64, ttl: Option<Duration>) -> Result<Written, Error> {
        let corrupt = |reason| Error::Corrupt { key: key.to_owned(), reason };
        let value = self.codec.write(key, json.clone()).map_err(corrupt)?;
        let options = match ttl {
            Some(ttl) => Some(PutOptions::new().with_lease(self.etcd.lease(ttl).await?)),
            None => None,
        };
        match self.write(key, expected, TxnOp::put(key, value, options)).await? {
            Ok(revision) => {
                let object = Object::new(key.into(), &json, revision).map_err(|error| corrupt(error.to_string()))?;
                let object = Arc::new(object);
                self.recent.add(object.clone());
                Ok(Written::Done(object))
            }
            Err(current) => Ok(Written::Conflict(self.read(current)?)),
        }
    }

    /// Deletes the object when its revision is that of `object`; the answer is its last state as of the deletion.
    pub async fn delete(&self, object: &Object) -> Result<Written, Error> {
        match self.write(&object.key, object.revision, TxnOp::delete(&*object.key, None)).await? {
            Ok(revision) => Ok(Written::Done(Arc::new(object.at_revision(revision)))),
            Err(current) => Ok(Written::Conflict(self.read(current)?)),
        }
    }

    /// Writes as the agreement with other servers allows: the revision, or what is there instead.
    async fn write(&self, key: &str, expected: i64, operation: TxnOp) -> Result<Result<i64, Option<Stored>>, Error> {
        let mut modes = self.tenure.modes();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let condition = modes.borrow_and_update().condition();
            if let Some(condition) = condition {
                match self.etcd.write(key, expected, condition, operation.clone()).await? {
                    Outcome::Written(revision) => {
                        self.tenure.wrote(revision);
                        return Ok(Ok(revision));
                    }
                    Outcome::Conflict(current) => return Ok(Err(current)),
                    Outcome::Refused => {}
                }
            }
            if tokio::time::timeout_at(deadline, modes.changed()).await.is_err() {
                return Err(Error::Unavailable("another server is the only one that may write".into()));
            }
        }
    }

    /// Reads the object from etcd itself.
    pub async fn get_from_etcd(&self, key: &str) -> Result<Option<Arc<Object>>, Error> {
        let stored = self.etcd.get(key).await?;
        self.read(stored)
    }

    fn read(&self, stored: Option<Stored>) -> Result<Option<Arc<Object>>, Error> {
        stored.map(|stored| feed::read(&*self.codec, stored).map(Arc::new)).transpose()
    }

    /// Keeps a snapshot for the pages that follow.
    pub fn keep(&self, snapshot: Arc<Snapshot>) {
        let mut kept = self.snapshots.lock();
        kept.retain(|_, (since, _)| since.elapsed() < SNAPSHOT_LIFE);
        if kept.len() >= MAX_SNAPSHOTS && !kept.contains_key(&snapshot.revision) {
            kept.pop_first();
        }
        kept.insert(snapshot.revision, (Instant::now(), snapshot));
    }

    /// The state at a revision in the past, where it is the present one or was kept.
    pub fn snapshot_at(&self, revision: i64) -> Option<Arc<Snapshot>> {
        let current = self.cache.snapshot();
        if current.revision == revision {
            return Some(current);
        }
        self.snapshots.lock().get(&revision).map(|(_, snapshot)| snapshot.clone())
    }

    /// A page at a revision in the past, from etcd. `limit` 0 is all.
    pub async fn range_at(&self, prefix: &str, start: &str, limit: usize, revision: i64) -> Result<Listed, Error> {
        let page = self.etcd.range(prefix, start, limit as i64, revision).await?;
        let next = if page.more { page.items.last().map(|last| format!("{}\0", last.key)) } else { None };
        let objects = page.items.into_iter().map(|stored| feed::read(&*self.codec, stored).map(Arc::new));
        Ok(Listed { items: objects.collect::<Result<_, _>>()?, revision, next })
    }
}

fn key_of(resource: GroupResource<'_>, namespace: &str, name: &str) -> String {
    let prefix = keys::prefix(resource.group, resource.resource);
    if namespace.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}{namespace}/{name}") }
}

#[async_trait]
impl Reader for Store {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.cache.get(&key_of(resource, namespace, name)).map(|object| Arc::new(object.to_value()))
    }

    fn list(&self, resource: GroupResource<'_>, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let mut prefix = keys::prefix(resource.group, resource.resource);
        if let Some(namespace) = namespace {
            prefix.push_str(namespace);
            prefix.push('/');
        }
        self.cache.snapshot().range(&prefix, None).map(|object| Arc::new(object.to_value())).collect()
    }

    async fn get_consistent(
        &self,
        resource: GroupResource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        self.consistent().await?;
        Ok(Reader::get(self, resource, namespace, name))
    }
}
