//! API Priority and Fairness (KEP-1040): a FlowSchema says which priority level a request belongs to and which flow of it, the level
//! says how many requests run at a time and how others wait.
//!
//! Requests are held against an immutable [`Configuration`], which is replaced when an object changes, before readers see the change.
//! A request that finds seats takes one lock of its level when it comes and one when it leaves.

mod classify;
mod configuration;
pub mod controller;
mod demand;
pub mod dump;
mod estimate;
mod fair_queue;
mod in_flight;
mod level;
mod metrics;
mod retry_after;
mod shard;
mod shares;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apiserver_storage::reader::{Change, GroupResource, Observer};
use arc_swap::ArcSwap;
use component_base::metrics::Registry;
use component_base::options::GoDuration;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::uri::PathAndQuery;
use http::{Response, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::body::Body;
use crate::request::Query;
use crate::respond;
use crate::server::{Context, REQUEST_TIMEOUT, Server};
use classify::Subject;
use configuration::{Configuration, Flow, LEVELS, Objects, SCHEMAS};
use in_flight::{Counted, InFlight};
use level::{Detail, Level, Ticket};
use metrics::{FlowLabels, Load, Metrics};

const FLOW_SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const RESOURCES: [GroupResource<'static>; 2] = [GroupResource::new(GROUP, LEVELS), GroupResource::new(GROUP, SCHEMAS)];
/// The part of a request's time that it may wait.
const PATIENCE: u32 = 4;

/// What keeps the server from doing too much at a time.
pub enum Limiter {
    Fair(Arc<FlowControl>),
    /// `--enable-priority-and-fairness=false`.
    InFlight(InFlight),
}

/// What a request has as long as it runs. Dropping it lets others run.
#[derive(Default)]
pub enum Admitted {
    /// It is not limited.
    #[default]
    Freely,
    Counted {
        _counted: Counted,
    },
    Fairly {
        _ticket: Ticket,
    },
}

/// The flow schema and the level of a request, which its answer names.
pub struct Classified(Option<Arc<Flow>>);

impl Classified {
    /// Names them in the headers of an answer. Their names are not for everybody; their uids are.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if let Some(flow) = &self.0 {
            headers.insert(PRIORITY_LEVEL_UID, flow.level_uid.clone());
            headers.insert(FLOW_SCHEMA_UID, flow.uid.clone());
        }
    }
}

impl Limiter {
    pub fn new(options: &crate::options::Options, registry: &Registry) -> Self {
        let (reading, writing) = (options.max_requests_inflight, options.max_mutating_requests_inflight);
        if options.enable_priority_and_fairness {
            Limiter::Fair(FlowControl::new(reading.saturating_add(writing), registry))
        } else {
            Limiter::InFlight(InFlight::new(reading, writing))
        }
    }

    pub fn flow_control(&self) -> Option<&Arc<FlowControl>> {
        match self {
            Limiter::Fair(flow_control) => Some(flow_control),
            Limiter::InFlight(_) => None,
        }
    }

    /// Waits until the request may run, or refuses it. Requests that last long by nature are not limited; of watches only what
    /// precedes changes is.
    pub async fn admit(
        &self,
        server: &Server,
        context: &Context,
        path: Option<&PathAndQuery>,
    ) -> (Classified, Result<Admitted, Response<Body>>) {
        let long = crate::server::is_long_running(&context.info);
        match self {
            Limiter::Fair(flow_control) if !long || context.info.verb == "watch" => {
                flow_control.admit(server, context, path).await
            }
            Limiter::InFlight(limits) if !long => {
                let counted = limits.count(&context.user, &context.info).map(|_counted| Admitted::Counted { _counted });
                (Classified(None), counted.ok_or_else(|| too_many_requests(1)))
            }
            _ => (Classified(None), Ok(Admitted::Freely)),
        }
    }
}

fn too_many_requests(retry_after: u64) -> Response<Body> {
    let mut response = respond::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A quarter of the time that the request may take in all.
fn patience(query: &Query) -> Duration {
    let wanted = query.get("timeout").parse::<GoDuration>().map(Duration::from).ok().filter(|time| !time.is_zero());
    wanted.map_or(REQUEST_TIMEOUT, |time| time.min(REQUEST_TIMEOUT)) / PATIENCE
}

/// Priority and fairness.
pub struct FlowControl {
    /// The seats of the server.
    seats: u32,
    current: ArcSwap<Configuration>,
    objects: Mutex<Objects>,
    changed: Notify,
    metrics: Metrics,
}

impl std::fmt::Debug for FlowControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowControl").field("seats", &self.seats).finish_non_exhaustive()
    }
}

impl FlowControl {
    /// Without objects; the cache shows those that there are.
    fn new(seats: u32, registry: &Registry) -> Arc<Self> {
        let metrics = Metrics::new(registry);
        let mut objects = Objects::default();
        let current = ArcSwap::from_pointee(objects.digest(seats, &metrics));
        let flow_control =
            FlowControl { seats, current, objects: Mutex::new(objects), changed: Notify::new(), metrics };
        let flow_control = Arc::new(flow_control);
        registry.collect(Box::new(metrics::Present(Arc::downgrade(&flow_control))));
        flow_control
    }

    async fn admit(
        &self,
        server: &Server,
        context: &Context,
        path: Option<&PathAndQuery>,
    ) -> (Classified, Result<Admitted, Response<Body>>) {
        let subject = Subject { user: &context.user, info: &context.info, path: path.map_or("/", PathAndQuery::path) };
        let flow = self.current.load().classify(&subject).clone();
        let hash = if flow.level.is_exempt() { 0 } else { flow.hash(&subject) };
        let work = estimate::work(server, context, &flow);
        let detail =
            Detail { flow: flow.clone(), user: context.user.clone(), info: context.info.clone(), path: path.cloned() };
        let entered = flow.level.enter(hash, work, detail, || patience(&context.query)).await;
        let admitted =
            entered.map(|_ticket| Admitted::Fairly { _ticket }).map_err(|_| too_many_requests(flow.level.refuse()));
        (Classified(Some(flow)), admitted)
    }

    /// Completes when an object has changed since the last time.
    async fn changed(&self) {
        self.changed.notified().await;
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock()
    }

    /// Divides the seats anew, and forgets levels that have ended.
    fn adjust(&self) {
        let mut objects = self.objects.lock();
        if objects.has_remains() {
            self.current.store(Arc::new(objects.digest(self.seats, &self.metrics)));
        } else {
            objects.adjust();
        }
    }

    /// The levels in use, by name.
    pub fn levels(&self) -> Vec<Arc<Level>> {
        self.objects.lock().in_use.values().cloned().collect()
    }

    fn fair_fraction(&self) -> f64 {
        self.objects.lock().fair_fraction
    }

    /// What the requests of each flow take now.
    fn loads(&self, levels: &[Arc<Level>]) -> Vec<(FlowLabels, Load)> {
        let flows = self.current.load();
        let idle = flows.flows().iter().map(|flow| (flow.metrics.labels.clone(), Load::default()));
        let mut loads: HashMap<FlowLabels, Load> = idle.collect();
        for level in levels {
            for (request, _) in level.state().set.requests() {
                let load = loads.entry(request.detail.flow.metrics.labels.clone()).or_default();
                let seats = i64::from(request.work.max_seats());
                match request.started {
                    Some(_) => {
                        load.executing += i64::from(!request.lingers);
                        load.seats += seats;
                    }
                    None => {
                        load.waiting += 1;
                        load.seats_waiting += seats;
                    }
                }
            }
        }
        loads.into_iter().collect()
    }
}

impl Observer for FlowControl {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &RESOURCES
    }

    fn observe(&self, change: &Change<'_>) {
        let mut objects = self.objects.lock();
        let map = if change.resource.resource == LEVELS { &mut objects.levels } else { &mut objects.schemas };
        let old = match &change.new {
            Some(object) => map.insert(change.name.to_owned(), object.clone()),
            None => map.remove(change.name),
        };
        // A condition that was written changes nothing.
        let same = |old: &serde_json::Value, new: &serde_json::Value| {
            old["spec"] == new["spec"] && old["metadata"]["uid"] == new["metadata"]["uid"]
        };
        if !old.zip(change.new.as_ref()).is_some_and(|(old, new)| same(&old, new)) {
            self.current.store(Arc::new(objects.digest(self.seats, &self.metrics)));
        }
        drop(objects);
        self.changed.notify_one();
    }
}
