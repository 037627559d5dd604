//! The requests that the apiserver makes to etcd: compare-and-write transactions, ranges, and the question for the revision.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, KvClient, LeaseGrantOptions, Txn, TxnOp, TxnOpResponse,
    WatchClient,
};
use parking_lot::Mutex;

use crate::error::Error;
use crate::keys;

/// How long etcd may take to answer one request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Objects that expire share a lease when they are written within this time.
const LEASE_REUSE: Duration = Duration::from_secs(60);

/// The largest answer that is taken from etcd, in bytes: a page of the largest objects. gRPC's own default is 4 MiB.
const ANSWER_LIMIT: usize = i32::MAX as usize;

/// A stored value with its revision.
#[derive(Debug)]
pub struct Stored {
    pub key: String,
    pub value: Vec<u8>,
    pub revision: i64,
}

impl From<KeyValue> for Stored {
    fn from(kv: KeyValue) -> Self {
        let revision = kv.mod_revision();
        let (key, value) = kv.into_key_value();
        Stored { key: String::from_utf8_lossy(&key).into_owned(), value, revision }
    }
}

/// How a conditional write ended.
#[derive(Debug)]
pub enum Outcome {
    /// Written, at this revision.
    Written(i64),
    /// The key is at another revision; this is what is there.
    Conflict(Option<Stored>),
    /// The condition does not hold.
    Refused,
}

/// One page of a range.
pub struct Page {
    pub items: Vec<Stored>,
    pub more: bool,
    /// The store's revision when the page was read.
    pub revision: i64,
}

struct Lease {
    id: i64,
    ttl: Duration,
    granted: Instant,
}

/// A connection to etcd. Cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    kv: KvClient,
    leases: Arc<Mutex<Vec<Lease>>>,
}

/// Fails when the answer takes too long.
pub async fn timely<T>(request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(Error::from),
        Err(_) => Err(Error::Unavailable(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}

impl Etcd {
    pub fn new(client: Client) -> Self {
        let kv = client.kv_client().max_decoding_message_size(ANSWER_LIMIT);
        Etcd { client, kv, leases: Arc::default() }
    }

    /// The client itself, for compaction.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn watch_client(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(ANSWER_LIMIT)
    }

    /// Writes or deletes the key when its revision is `expected` (0: when it does not exist) and `condition` holds.
    pub async fn write(
        &self,
        key: &str,
        expected: i64,
        condition: Compare,
        operation: TxnOp,
    ) -> Result<Outcome, Error> {
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, expected), condition])
            .and_then([operation])
            .or_else([TxnOp::get(key, None)]);
        let mut kv = self.kv.clone();
        let response = timely(kv.txn(txn)).await?;
        if response.succeeded() {
            return Ok(Outcome::Written(response.header().map_or(0, |header| header.revision())));
        }
        let current = response.op_responses().into_iter().find_map(|operation| match operation {
            TxnOpResponse::Get(mut get) => get.take_kvs().into_iter().next(),
            _ => None,
        });
        let current = current.map(Stored::from);
        let revision = current.as_ref().map_or(0, |current| current.revision);
        Ok(if revision == expected { Outcome::Refused } else { Outcome::Conflict(current) })
    }

    /// Reads one key.
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let mut kv = self.kv.clone();
        let mut response = timely(kv.get(key, None)).await?;
        Ok(response.take_kvs().into_iter().next().map(Stored::from))
    }

    /// Reads keys from `start` up to the end of `prefix`, at `revision` (0: now).
    pub async fn range(&self, prefix: &str, start: &str, limit: i64, revision: i64) -> Result<Page, Error> {
        let options = GetOptions::new().with_range(keys::range_end(prefix)).with_limit(limit).with_revision(revision);
        let mut kv = self.kv.clone();
        let mut response = timely(kv.get(start, Some(options))).await?;
        let revision = response.header().map_or(0, |header| header.revision());
        let more = response.more();
        Ok(Page { items: response.take_kvs().into_iter().map(Stored::from).collect(), more, revision })
    }

    /// The revision of etcd now: a linearizable read of nothing.
    pub async fn revision(&self) -> Result<i64, Error> {
        let mut kv = self.kv.clone();
        let options = GetOptions::new().with_count_only();
        let response = timely(kv.get("/registry/revision", Some(options))).await?;
        Ok(response.header().map_or(0, |header| header.revision()))
    }

    /// Writes a key of no meaning, so that the watch reports a revision.
    pub async fn touch(&self) -> Result<(), Error> {
        let mut kv = self.kv.clone();
        timely(kv.put(keys::PROGRESS, "", None)).await.map(|_| ())
    }

    /// A lease that lives at least `ttl`, shared by writes close in time.
    pub async fn lease(&self, ttl: Duration) -> Result<i64, Error> {
        let shared = {
            let mut leases = self.leases.lock();
            leases.retain(|lease| lease.granted.elapsed() < LEASE_REUSE);
            leases.iter().find(|lease| lease.ttl == ttl).map(|lease| lease.id)
        };
        if let Some(id) = shared {
            return Ok(id);
        }
        let mut client = self.client.clone();
        let seconds = (ttl + LEASE_REUSE).as_secs() as i64;
        let granted = timely(client.lease_grant(seconds, None::<LeaseGrantOptions>)).await?;
        self.leases.lock().push(Lease { id: granted.id(), ttl, granted: Instant::now() });
        Ok(granted.id())
    }
}
