//! Events about objects: a recorder that never blocks its caller, with client-go's correlation (repeats are counted, similar ones combined, spam is dropped).
//!
//! Events are written as core/v1 (the same objects as `events.k8s.io/v1`) with `count`, which every client shows.

mod correlate;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

use crate::client::{self, Limiter};
use crate::runner::chain;
use correlate::{Correlator, Verdict};

/// Tasks that send a recorder's events; all events about an object go through the same one, so that repeats are seen as such.
const LANES: usize = 4;
/// Events that wait in a lane; when it is full, new ones are dropped, which is logged (they are hints, not state).
const QUEUE: usize = 1000;
/// How often an event is tried.
const TRIES: u32 = 5;
/// Time between tries.
const RETRY: Duration = Duration::from_secs(5);

/// Whether an event tells of something normal or of something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Information.
    Normal,
    /// Something a person may have to act on.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One event as a controller records it.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    regarding: ObjectReference,
    event_type: EventType,
    reason: String,
    action: String,
    note: String,
    at: Timestamp,
}

/// Records events of one component. Clones share the queues.
#[derive(Clone)]
pub struct Recorder {
    lanes: Arc<[Lane]>,
}

struct Lane {
    sender: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// A reference to a typed object, for [`Recorder::event`].
pub fn reference<K: Resource<DynamicType: Default>>(object: &K) -> ObjectReference {
    object.object_ref(&K::DynamicType::default())
}

impl Recorder {
    /// A recorder whose events name `component` as their source (and `host`, for a node's agent). Its tasks end when all clones are
    /// dropped; must be called within a tokio runtime.
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        Self::limited(client, component, host, None)
    }

    /// As [`Recorder::new`], but writes events no faster than the limiter lets it: the others wait.
    pub fn limited(client: Client, component: &str, host: Option<&str>, limiter: Option<Limiter>) -> Self {
        let source = EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) };
        let writer = Arc::new(Writer { client, source, limiter });
        let lane = |_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let dropped = Arc::<AtomicU64>::default();
            tokio::spawn(send_all(Arc::clone(&writer), receiver, Arc::clone(&dropped)));
            Lane { sender, dropped }
        };
        Self { lanes: (0..LANES).map(lane).collect() }
    }

    /// A recorder that drops everything, for tests of what records.
    pub fn discard() -> Self {
        Self { lanes: Arc::new([]) }
    }

    /// Records an event about an object. `reason` is a CamelCase word, `action` what was done or tried (may be empty), `note` for people.
    pub fn event(
        &self,
        regarding: &ObjectReference,
        event_type: EventType,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        let Some(lane) = self.lane(regarding) else { return };
        let record = Record {
            regarding: regarding.clone(),
            event_type,
            reason: reason.to_owned(),
            action: action.to_owned(),
            note: note.into(),
            at: Timestamp::now(),
        };
        if lane.sender.try_send(record).is_err() {
            lane.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lane(&self, regarding: &ObjectReference) -> Option<&Lane> {
        let mut hasher = DefaultHasher::new();
        (&regarding.kind, &regarding.namespace, &regarding.name, &regarding.uid).hash(&mut hasher);
        let number = hasher.finish() as usize;
        self.lanes.get(number.checked_rem(self.lanes.len())?)
    }

    /// Records a normal event.
    pub fn normal(&self, regarding: &ObjectReference, reason: &str, note: impl Into<String>) {
        self.event(regarding, EventType::Normal, reason, "", note);
    }

    /// Records a warning.
    pub fn warning(&self, regarding: &ObjectReference, reason: &str, note: impl Into<String>) {
        self.event(regarding, EventType::Warning, reason, "", note);
    }
}

/// What all lanes write with.
struct Writer {
    client: Client,
    source: EventSource,
    limiter: Option<Limiter>,
}

async fn send_all(writer: Arc<Writer>, mut receiver: mpsc::Receiver<Record>, dropped: Arc<AtomicU64>) {
    let mut correlator = Correlator::default();
    while let Some(record) = receiver.recv().await {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "events were dropped: {QUEUE} waited already");
        }
        let Some((key, verdict)) = correlator.observe(&record) else { continue };
        match writer.send(&record, &verdict).await {
            Ok(name) => correlator.sent(key, name, verdict.count),
            Err(error) => tracing::warn!(
                reason = record.reason,
                object = record.regarding.name,
                error = chain(&error),
                "event not written"
            ),
        }
    }
}

fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        _ => true,
    }
}

impl Writer {
    /// Writes an event, with retries where that can help; gives its name.
    async fn send(&self, record: &Record, verdict: &Verdict) -> Result<String, kube::Error> {
        let mut tries = 1;
        loop {
            if let Some(limiter) = &self.limiter {
                limiter.wait().await;
            }
            match self.send_once(record, verdict).await {
                Err(error) if tries < TRIES && is_transient(&error) => {
                    tracing::debug!(%error, tries, "writing an event failed, will retry");
                    tokio::time::sleep(RETRY).await;
                    tries += 1;
                }
                Err(error) if client::is_namespace_terminating(&error) => return Ok(String::new()),
                outcome => return outcome,
            }
        }
    }

    async fn send_once(&self, record: &Record, verdict: &Verdict) -> Result<String, kube::Error> {
        let namespace =
            record.regarding.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Some(name) = &verdict.known {
            let patch = serde_json::json!({
                "count": verdict.count,
                "lastTimestamp": Time(record.at),
                "message": verdict.note,
            });
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(error) if client::is_not_found(&error) => {}
                outcome => return outcome.map(|_| name.clone()),
            }
        }
        let event = new_event(namespace, &self.source, record, verdict);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await.map(|_| name)
    }
}

fn new_event(namespace: &str, source: &EventSource, record: &Record, verdict: &Verdict) -> Event {
    let mut name = record.regarding.name.clone().unwrap_or_default();
    let _infallible = write!(name, ".{:x}", record.at.as_nanosecond());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        involved_object: record.regarding.clone(),
        reason: Some(record.reason.clone()),
        action: (!record.action.is_empty()).then(|| record.action.clone()),
        message: Some(verdict.note.clone()),
        type_: Some(record.event_type.as_str().to_owned()),
        count: Some(verdict.count),
        first_timestamp: Some(Time(record.at)),
        last_timestamp: Some(Time(record.at)),
        event_time: None::<MicroTime>,
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    /// The milliseconds at which events about that many objects are written.
    async fn written_at(objects: usize, limiter: Option<Limiter>) -> Vec<u128> {
        let (start, times) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let written = Arc::clone(&times);
        let server = tower::service_fn(move |request: Request<Body>| {
            written.lock().push(start.elapsed().as_millis());
            async move { Ok::<_, std::convert::Infallible>(Response::new(request.into_body())) }
        });
        let recorder = Recorder::limited(Client::new(server, "default"), "test", None, limiter);
        for number in 0..objects {
            let object = ObjectReference { name: Some(format!("o{number}")), ..ObjectReference::default() };
            recorder.normal(&object, "Reason", "note");
        }
        // Time goes on only while nothing else is to be done.
        tokio::time::sleep(Duration::from_secs(60)).await;
        times.lock().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn events_wait_for_the_limit_of_their_recorder() {
        assert_eq!(written_at(6, Limiter::new(2.0, 3)).await, [0, 0, 0, 500, 1000, 1500]);
        assert_eq!(written_at(6, None).await, [0; 6]);
    }
}
