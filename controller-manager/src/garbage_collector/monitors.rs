//! One metadata-only watch per resource, kept up with what the API server has.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use component_base::queue::WorkQueue;
use component_base::runner::chain;
use component_base::shutdown::Shutdown;
use futures::StreamExt;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::Work;
use super::graph::{Graph, Object};
use crate::discovery::{self, Resource};

/// Between two looks at what resources there are, beside those after a change of a CustomResourceDefinition or APIService.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// After such a change, the time in which more of them are taken together.
const SETTLE: Duration = Duration::from_millis(500);

type ByGroupAndKind = HashMap<(String, String), Arc<Resource>>;

/// The resources by group and kind.
#[derive(Clone, Default)]
pub struct Resources(Arc<RwLock<ByGroupAndKind>>);

impl Resources {
    pub fn find(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        // Versions of one kind are the same objects.
        self.0.read().get(&(group.to_owned(), kind.to_owned())).cloned()
    }
}

pub struct Monitors {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    queue: WorkQueue<Work>,
    resources: Resources,
    running: HashMap<(String, String), (Shutdown, watch::Receiver<bool>)>,
    /// The resources may have changed.
    changed: Arc<Notify>,
    is_complete: bool,
}

impl Monitors {
    pub fn new(client: Client, graph: Arc<Mutex<Graph>>, queue: WorkQueue<Work>) -> Self {
        Self {
            client,
            graph,
            queue,
            resources: Resources::default(),
            running: HashMap::new(),
            changed: Arc::default(),
            is_complete: false,
        }
    }

    pub fn resources(&self) -> Resources {
        self.resources.clone()
    }

    /// Starts and ends watches as resources come and go, until shutdown.
    pub async fn keep_up_with_discovery(mut self, shutdown: Shutdown) {
        loop {
            match discovery::deletable(&self.client).await {
                Ok(resources) => self.follow(resources, &shutdown),
                Err(error) => tracing::warn!(error = chain(&error), "the resources cannot be discovered, will retry"),
            }
            let changed = self.changed.clone();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.first_lists() => {}
                () = async { changed.notified().await; tokio::time::sleep(SETTLE).await } => {}
                () = tokio::time::sleep(DISCOVERY_PERIOD) => {}
            }
        }
    }

    /// Waits for the first lists of all watches, and then lets the graph act; ready only once.
    async fn first_lists(&mut self) {
        if self.is_complete || self.running.is_empty() {
            return std::future::pending().await;
        }
        for (_, listed) in self.running.values_mut() {
            if listed.wait_for(|listed| *listed).await.is_err() {
                tracing::debug!("a watch ended before its first list");
            }
        }
        self.is_complete = true;
        let work = self.graph.lock().complete();
        work.into_iter().for_each(|w| self.queue.add(w));
    }

    fn follow(&mut self, resources: Vec<Resource>, shutdown: &Shutdown) {
        // Events own nothing, and are many.
        let wanted = resources.into_iter().filter(|r| !(r.api.group.is_empty() && r.api.kind == "Event"));
        let wanted: ByGroupAndKind = wanted.map(|r| ((r.api.group.clone(), r.api.kind.clone()), Arc::new(r))).collect();
        self.running.retain(|key, (stop, _)| {
            let stays = wanted.contains_key(key);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (key, resource) in &wanted {
            if !self.running.contains_key(key) {
                let monitor = self.start(resource.clone(), shutdown);
                self.running.insert(key.clone(), monitor);
            }
        }
        *self.resources.0.write() = wanted;
    }

    fn start(&self, resource: Arc<Resource>, shutdown: &Shutdown) -> (Shutdown, watch::Receiver<bool>) {
        let stop = shutdown.child_token();
        let (listed, is_listed) = watch::channel(false);
        let monitor = Monitor {
            defines_resources: matches!(resource.api.kind.as_str(), "CustomResourceDefinition" | "APIService"),
            resource,
            graph: self.graph.clone(),
            queue: self.queue.clone(),
            changed: self.changed.clone(),
            seen: HashSet::new(),
            listed,
        };
        tokio::spawn(monitor.run(self.client.clone(), stop.clone()));
        (stop, is_listed)
    }
}

struct Monitor {
    resource: Arc<Resource>,
    defines_resources: bool,
    graph: Arc<Mutex<Graph>>,
    queue: WorkQueue<Work>,
    changed: Arc<Notify>,
    /// The uids in the list under way.
    seen: HashSet<String>,
    listed: watch::Sender<bool>,
}

impl Monitor {
    async fn run(mut self, client: Client, stop: Shutdown) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &self.resource.api);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => self.take(event),
                Some(Err(error)) => {
                    tracing::debug!(
                        resource = self.resource.name(),
                        error = chain(&error),
                        "a watch failed and is tried again"
                    );
                }
                None => return,
            }
        }
    }

    fn take(&mut self, event: Event<PartialObjectMeta<DynamicObject>>) {
        match event {
            Event::Init => self.seen.clear(),
            Event::InitApply(object) => {
                self.seen.extend(object.metadata.uid.clone());
                self.set(&object);
            }
            Event::InitDone => self.end_list(),
            Event::Apply(object) => {
                self.set(&object);
                self.note_change();
            }
            Event::Delete(object) => {
                let work = object.metadata.uid.as_deref().map(|uid| self.graph.lock().remove(uid));
                self.enqueue(work.unwrap_or_default());
                self.note_change();
            }
        }
    }

    fn set(&self, object: &PartialObjectMeta<DynamicObject>) {
        let Some(uid) = object.metadata.uid.as_deref() else { return };
        let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
        let work = self.graph.lock().set(uid, Object::new(&self.resource, &object.metadata), owners);
        self.enqueue(work);
    }

    /// What a complete list does not have is gone.
    fn end_list(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let mut graph = self.graph.lock();
        let gone = graph.missing(&self.resource, &seen);
        let work: Vec<Work> = gone.iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        self.enqueue(work);
        self.listed.send_replace(true);
    }

    fn enqueue(&self, work: Vec<Work>) {
        work.into_iter().for_each(|w| self.queue.add(w));
    }

    fn note_change(&self) {
        if self.defines_resources {
            self.changed.notify_one();
        }
    }
}
