//! Watch: what there is, where asked for, then every change, in the order of revisions.
//!
//! Kubernetes documentation, "Kubernetes API concepts": efficient detection of changes, watch bookmarks, streaming lists.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use apiserver_storage::{Cache, Event, Lagged, Object, Store, Watcher};
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::endpoints::read::{Freshness, parse_version};
use crate::flowcontrol::Admitted;
use crate::negotiate::Form;
use crate::present::Presenter;
use crate::request::Query;
use crate::selection::Selection;

/// How many events are written at once, at most.
const BATCH: usize = 512;
/// Pieces of the initial state are about this large, in bytes.
const PIECE: usize = 64 * 1024;
/// How often a client that allows them gets a bookmark.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` ends after this time to twice this time (`--min-request-timeout`).
const MIN_LIFE: Duration = Duration::from_secs(1800);

/// The parameters of a watch.
struct Options {
    bookmarks: bool,
    /// The initial state is sent as events, and its end is marked.
    initial_events: bool,
    life: Duration,
}

impl Options {
    fn of(query: &Query) -> Result<Self, ApiError> {
        let initial_events = query.flag("sendInitialEvents");
        if query.has("sendInitialEvents") && query.get("resourceVersionMatch") != "NotOlderThan" {
            return Err(ApiError::bad_request(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if !query.has("sendInitialEvents") && query.has("resourceVersionMatch") {
            return Err(ApiError::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        let life = match query.get("timeoutSeconds") {
            "" | "0" => MIN_LIFE.mul_f64(1.0 + rand::random::<f64>()),
            text => Duration::from_secs(
                text.parse().map_err(|_| ApiError::bad_request(format!("invalid timeoutSeconds {text:?}")))?,
            ),
        };
        Ok(Options { bookmarks: query.flag("allowWatchBookmarks"), initial_events, life })
    }
}

/// Begins a watch.
///
/// # Errors
/// Before the stream: `BadRequest` for parameters, `Timeout` and `ServiceUnavailable` where a consistent start cannot be had.
/// In the stream: an ERROR event with an `Expired` status when the window has passed, also when it had from the start. Clients
/// list again after that event, but try again with the same version after a refusal.
pub async fn watch(
    store: &Store,
    selection: Selection,
    presenter: Presenter,
    query: &Query,
    shutdown: CancellationToken,
    admitted: Admitted,
) -> Result<Body, ApiError> {
    let options = Options::of(query)?;
    let (start, from_state) = start(store, query, &options).await?;
    let cache = store.cache().clone();
    let initial = from_state.then(|| cache.snapshot());
    let revision = initial.as_ref().map_or(start, |snapshot| snapshot.revision);
    let watcher = cache.watch(selection_prefix(&presenter), selection.watch_scope(), revision);
    let watcher = match watcher {
        Ok(watcher) => watcher,
        Err(Lagged) => return Ok(Body::full(error_event(&presenter, &too_old(revision))?)),
    };
    let initial: Vec<Arc<Object>> =
        initial.iter().flat_map(|snapshot| selection.select(snapshot, None).cloned().collect::<Vec<_>>()).collect();
    let stream = Stream {
        cache,
        watcher,
        selection,
        presenter,
        initial: initial.into_iter(),
        mark_initial_end: options.initial_events.then_some(revision),
        bookmarks: options.bookmarks,
        deadline: Instant::now() + options.life,
        alarm: Box::pin(tokio::time::sleep(BOOKMARK_INTERVAL.min(options.life))),
        columns: true,
        ended: false,
        shutdown,
        admitted,
    };
    Ok(Body::stream(futures::stream::unfold(stream, Stream::step)))
}

fn selection_prefix(presenter: &Presenter) -> &str {
    &presenter.served.prefix
}

fn too_old(revision: i64) -> ApiError {
    ApiError::expired(format!("too old resource version: {revision}"))
}

fn error_event(presenter: &Presenter, error: &ApiError) -> Result<Bytes, ApiError> {
    let mut out = BytesMut::new();
    presenter.event_value(&mut out, "ERROR", &error.to_value())?;
    Ok(out.freeze())
}

/// The revision to start after, and whether the present state is sent first.
async fn start(store: &Store, query: &Query, options: &Options) -> Result<(i64, bool), ApiError> {
    let version = query.get("resourceVersion");
    if options.initial_events {
        let freshness = match version {
            "" => Freshness::Latest,
            "0" => Freshness::Any,
            version => Freshness::NotOlderThan(parse_version(version)?),
        };
        freshness.wait(store).await?;
        return Ok((0, true));
    }
    match version {
        "" => {
            store.consistent().await?;
            // `sendInitialEvents=false` asks for changes from now on.
            Ok((store.cache().revision(), !query.has("sendInitialEvents")))
        }
        "0" => Ok((store.cache().revision(), !query.has("sendInitialEvents"))),
        version => Ok((parse_version(version)?, false)),
    }
}

/// The state of one watch.
struct Stream {
    cache: Arc<Cache>,
    watcher: Watcher,
    selection: Selection,
    presenter: Presenter,
    initial: std::vec::IntoIter<Arc<Object>>,
    /// The revision of the bookmark that ends the initial events, while it is still to be sent.
    mark_initial_end: Option<i64>,
    bookmarks: bool,
    deadline: Instant,
    /// Rings for the next bookmark or the end, whichever is first.
    alarm: std::pin::Pin<Box<Sleep>>,
    /// Whether a Table still has to say its columns.
    columns: bool,
    ended: bool,
    shutdown: CancellationToken,
    /// What the watch has until its initial events are sent.
    admitted: Admitted,
}

type Piece = Result<Bytes, std::io::Error>;

impl Stream {
    /// The next piece of the stream, never empty; none at its end.
    async fn step(mut self) -> Option<(Piece, Stream)> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        match self.fill(&mut out).await {
            Ok(()) if out.is_empty() => None,
            Ok(()) => Some((Ok(out.freeze()), self)),
            Err(error) => {
                self.ended = true;
                let piece = error_event(&self.presenter, &error).map_err(std::io::Error::other);
                Some((piece, self))
            }
        }
    }

    async fn fill(&mut self, out: &mut BytesMut) -> Result<(), ApiError> {
        while out.len() < PIECE {
            let Some(object) = self.initial.next() else { break };
            self.write(out, "ADDED", &object)?;
        }
        if self.initial.as_slice().is_empty()
            && let Some(revision) = self.mark_initial_end.take()
        {
            let bookmark = self.presenter.bookmark(revision, true);
            self.presenter.event_value(out, "BOOKMARK", &bookmark)?;
        }
        if out.is_empty() {
            self.admitted = Admitted::Freely;
        }
        while out.is_empty() {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(()),
                () = self.alarm.as_mut() => {
                    let over = Instant::now() >= self.deadline;
                    self.bookmark(out)?;
                    if over {
                        self.ended = true;
                        return Ok(());
                    }
                    self.alarm.as_mut().reset(self.deadline.min(Instant::now() + BOOKMARK_INTERVAL));
                }
                events = self.watcher.next(BATCH) => {
                    let events = events.map_err(|Lagged| too_old(self.cache.revision()))?;
                    for event in events {
                        self.show(out, &event)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Everything up to the cache's revision has been sent when the log has nothing more for this watcher.
    fn bookmark(&mut self, out: &mut BytesMut) -> Result<(), ApiError> {
        let revision = self.cache.revision();
        for event in self.watcher.take(BATCH).map_err(|Lagged| too_old(revision))? {
            self.show(out, &event)?;
        }
        if self.bookmarks && out.is_empty() {
            let bookmark = self.presenter.bookmark(revision, false);
            self.presenter.event_value(out, "BOOKMARK", &bookmark)?;
        }
        Ok(())
    }

    /// An event as this watcher sees it: an object that starts to match is added, one that stops is deleted.
    fn show(&mut self, out: &mut BytesMut, event: &Event) -> Result<(), ApiError> {
        let before = event.previous.as_ref().is_some_and(|object| self.selection.matches(object));
        let after = !event.deleted && self.selection.matches(&event.object);
        match (before, after) {
            (false, false) => Ok(()),
            (false, true) => self.write(out, "ADDED", &event.object),
            (true, true) => self.write(out, "MODIFIED", &event.object),
            (true, false) if event.deleted => self.write(out, "DELETED", &event.object),
            (true, false) => {
                let last = event.previous.as_ref().map(|object| Arc::new(object.at_revision(event.revision())));
                last.map_or(Ok(()), |last| self.write(out, "DELETED", &last))
            }
        }
    }

    fn write(&mut self, out: &mut BytesMut, kind: &str, object: &Arc<Object>) -> Result<(), ApiError> {
        let columns = std::mem::replace(&mut self.columns, false) && self.presenter.negotiated.form == Form::Table;
        self.presenter.event(out, kind, object, columns)
    }
}
