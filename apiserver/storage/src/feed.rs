//! Fills the watch cache from etcd and keeps it current: one load, then one watch over the whole prefix.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::cache::{Cache, Write};
use crate::codec::ValueCodec;
use crate::error::Error;
use crate::etcd::{Etcd, Page, Stored};
use crate::keys;
use crate::object::Object;
use crate::recent::Recent;

/// How many keys one request of the first load asks for.
const LOAD_PAGE: i64 = 500;
/// How many watch responses are taken into account in one step of the cache, at most.
const BATCH: usize = 128;
/// How long to wait before trying etcd again.
const RETRY: Duration = Duration::from_millis(250);

/// Feeds a cache from etcd.
pub struct Feed {
    pub etcd: Etcd,
    pub cache: Arc<Cache>,
    pub codec: Arc<dyn ValueCodec>,
    pub recent: Arc<Recent>,
}

/// Why a watch ended.
enum Ended {
    /// Continue from the last revision.
    Broken(String),
    /// The last revision is no longer there: load again.
    Compacted,
}

impl Feed {
    /// Feeds until shutdown. The cache stays readable (for reads that may be stale) while etcd is away.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.feed() => {}
        }
    }

    async fn feed(&self) {
        let mut loaded = false;
        loop {
            if !loaded {
                match self.load().await {
                    Ok(revision) => info!(revision, objects = self.cache.snapshot().len(), "watch cache loaded"),
                    Err(error) => {
                        warn!(%error, "cannot load the watch cache; trying again");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            loaded = match self.follow().await {
                Ended::Broken(reason) => {
                    warn!(reason, "the etcd watch ended; watching again");
                    tokio::time::sleep(RETRY).await;
                    true
                }
                Ended::Compacted => {
                    warn!("the etcd watch fell behind compaction; loading again");
                    false
                }
            };
        }
    }

    /// Reads page after page; while one is being taken in, the next one is on its way.
    async fn load(&self) -> Result<i64, Error> {
        let mut objects = Vec::new();
        let first = self.etcd.range(keys::ROOT, keys::ROOT, LOAD_PAGE, 0).await?;
        let revision = first.revision;
        let mut page = Some(first);
        while let Some(current) = page.take() {
            let next = current.items.last().filter(|_| current.more).map(|last| self.page_after(&last.key, revision));
            objects.extend(current.items.into_iter().filter_map(|stored| self.object(stored)));
            if let Some(next) = next {
                page = Some(next.await.map_err(|error| Error::Unavailable(error.to_string()))??);
            }
        }
        self.cache.replace(objects, revision);
        Ok(revision)
    }

    fn page_after(&self, last: &str, revision: i64) -> AbortOnDropHandle<Result<Page, Error>> {
        let (etcd, start) = (self.etcd.clone(), format!("{last}\0"));
        AbortOnDropHandle::new(tokio::spawn(async move { etcd.range(keys::ROOT, &start, LOAD_PAGE, revision).await }))
    }

    async fn follow(&self) -> Ended {
        let mut stream = match self.watch().await {
            Ok(stream) => stream,
            Err(error) => return Ended::Broken(error.to_string()),
        };
        loop {
            let first = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Ended::Broken("closed by etcd".into()),
                Err(error) => return Ended::Broken(error.to_string()),
            };
            let mut batch = vec![first];
            // Whatever has arrived meanwhile is one step of the cache.
            while batch.len() < BATCH {
                match stream.message().now_or_never() {
                    Some(Ok(Some(response))) => batch.push(response),
                    Some(Ok(None) | Err(_)) | None => break,
                }
            }
            if let Err(ended) = self.take(batch) {
                return ended;
            }
        }
    }

    async fn watch(&self) -> Result<WatchStream, etcd_client::Error> {
        let options = WatchOptions::new()
            .with_range(keys::range_end(keys::ROOT))
            .with_start_revision(self.cache.revision() + 1)
            .with_progress_notify();
        self.etcd.watch_client().watch(keys::ROOT, Some(options)).await
    }

    fn take(&self, batch: Vec<WatchResponse>) -> Result<(), Ended> {
        let mut revision = self.cache.revision();
        let mut writes = Vec::new();
        let mut ended = None;
        for response in batch {
            if response.canceled() {
                let compacted = response.compact_revision() > 0;
                ended =
                    Some(if compacted { Ended::Compacted } else { Ended::Broken(response.cancel_reason().to_owned()) });
                break;
            }
            if response.events().is_empty() && !response.created() {
                // A progress notification: everything up to its revision has been sent.
                revision = revision.max(response.header().map_or(0, |header| header.revision()));
            }
            for event in response.events() {
                let Some(kv) = event.kv() else { continue };
                revision = revision.max(kv.mod_revision());
                match event.event_type() {
                    EventType::Put => {
                        let object = self
                            .recent
                            .take(kv.key(), kv.mod_revision())
                            .or_else(|| self.object(Stored::from(kv.clone())));
                        writes.extend(object.map(Write::Put));
                    }
                    EventType::Delete => {
                        let key = String::from_utf8_lossy(kv.key()).into();
                        writes.push(Write::Delete { key, revision: kv.mod_revision() });
                    }
                }
            }
        }
        if revision > self.cache.revision() {
            self.cache.apply(writes, revision);
        }
        ended.map_or(Ok(()), Err)
    }

    fn object(&self, stored: Stored) -> Option<Arc<Object>> {
        if stored.key.starts_with(keys::OWN) {
            return None;
        }
        match read(&*self.codec, stored) {
            Ok(object) => Some(Arc::new(object)),
            Err(error) => {
                error!(%error, "a stored object is not served");
                None
            }
        }
    }
}

/// The object of a stored value.
pub fn read(codec: &dyn ValueCodec, stored: Stored) -> Result<Object, Error> {
    let Stored { key, value, revision } = stored;
    let json = codec.read(&key, value).map_err(|reason| Error::Corrupt { key: key.clone(), reason })?;
    Object::new(key.as_str().into(), &json, revision)
        .map_err(|malformed| Error::Corrupt { key, reason: malformed.to_string() })
}
