//! The pods of the node: one worker each, fed by the sources.

use std::collections::HashMap;
use std::sync::Arc;

use component_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::agent::Agent;
use crate::pod::status::Failure;
use crate::worker::{Handle, Input, Worker};
use crate::{pod, runtime, status_writer};

/// All workers. Clones share them.
#[derive(Clone)]
pub struct Pods {
    inner: Arc<Inner>,
}

struct Inner {
    agent: Arc<Agent>,
    shutdown: Shutdown,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    workers: HashMap<String, Handle>,
    /// Static pods that wait for the end of the one before them with the same name.
    successors: HashMap<String, Arc<Pod>>,
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod::namespace(pod), pod::name(pod))
}

impl Pods {
    pub fn new(agent: Arc<Agent>, shutdown: Shutdown) -> Self {
        Self { inner: Arc::new(Inner { agent, shutdown, state: Mutex::default() }) }
    }

    pub fn agent(&self) -> &Arc<Agent> {
        &self.inner.agent
    }

    /// A pod is new or changed.
    pub fn update(&self, pod: Arc<Pod>) {
        let uid = pod::uid(&pod).to_owned();
        let mut state = self.inner.state.lock();
        if let Some(handle) = state.workers.get(&uid) {
            handle.input.send_if_modified(|input| {
                let changed = *input.pod != *pod;
                input.pod = pod;
                changed
            });
            return;
        }
        let name = full_name(&pod);
        let before =
            pod::is_static(&pod) && state.workers.values().any(|handle| full_name(&handle.input.borrow().pod) == name);
        if before {
            state.successors.insert(name, pod);
            return;
        }
        self.start(&mut state, pod, false);
    }

    /// A pod that is in no source but whose containers are on the node: ends it.
    pub fn adopt_to_end(&self, pod: Pod) {
        let mut state = self.inner.state.lock();
        if !state.workers.contains_key(pod::uid(&pod)) {
            self.start(&mut state, Arc::new(pod), true);
        }
    }

    fn start(&self, state: &mut State, pod: Arc<Pod>, removed: bool) {
        let uid = pod::uid(&pod).to_owned();
        let failure = if removed { None } else { self.refusal(&pod) };
        let input = Input { pod, removed, failure, grace: None };
        let (worker, handle) = Worker::new(Arc::clone(&self.inner.agent), input, self.inner.shutdown.clone());
        let writer = status_writer::run(Arc::clone(&self.inner.agent), handle.clone(), self.inner.shutdown.clone());
        state.workers.insert(uid.clone(), handle);
        let pods = self.clone();
        tokio::spawn(async move {
            let writing = tokio::spawn(writer);
            worker.run().await;
            if writing.await.is_err() {
                tracing::error!(uid, "the status writer of a pod panicked");
            }
            pods.ended(&uid);
        });
    }

    /// Gives the pod its place on the node, or says why a new pod of the API does not get one. What was taken before stays.
    fn refusal(&self, pod: &Arc<Pod>) -> Option<Failure> {
        let is_new = pod.status.as_ref().is_none_or(|status| status.start_time.is_none());
        let agent = &self.inner.agent;
        let check = |others: &[Arc<Pod>]| {
            let asked = is_new && !pod::is_static(pod) && pod.metadata.deletion_timestamp.is_none();
            if asked { agent.refusal(pod, others) } else { None }
        };
        let over = matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        if over {
            return None;
        }
        let refusal = agent.places.take(pod, check).err()?;
        agent.recorder.warning(&pod::reference(pod), &refusal.reason, refusal.message.clone());
        Some(refusal)
    }

    /// A worker has ended its pod.
    fn ended(&self, uid: &str) {
        if self.inner.shutdown.is_cancelled() {
            return;
        }
        self.inner.agent.places.leave(uid);
        let mut state = self.inner.state.lock();
        let Some(handle) = state.workers.remove(uid) else { return };
        let name = full_name(&handle.input.borrow().pod);
        if let Some(next) = state.successors.remove(&name) {
            self.start(&mut state, next, false);
        }
    }

    /// A pod is gone from its source.
    pub fn remove(&self, uid: &str) {
        let mut state = self.inner.state.lock();
        state.successors.retain(|_, pod| pod::uid(pod) != uid);
        if let Some(handle) = state.workers.get(uid) {
            handle.input.send_if_modified(|input| !std::mem::replace(&mut input.removed, true));
        }
    }

    /// The static pods are now exactly these, from a source of that name.
    pub fn set_static(&self, source: &str, pods: Vec<Pod>) {
        let gone: Vec<String> = {
            let state = self.inner.state.lock();
            let of_source = |pod: &Pod| pod::annotation(pod, pod::CONFIG_SOURCE) == Some(source);
            let all = state.workers.values().map(|handle| Arc::clone(&handle.input.borrow().pod));
            let all = all.chain(state.successors.values().cloned()).filter(|pod| of_source(pod));
            all.map(|pod| pod::uid(&pod).to_owned())
                .filter(|uid| !pods.iter().any(|pod| pod::uid(pod) == uid))
                .collect()
        };
        for uid in gone {
            self.remove(&uid);
        }
        for pod in pods {
            self.update(Arc::new(pod));
        }
    }

    pub fn get(&self, uid: &str) -> Option<Handle> {
        self.inner.state.lock().workers.get(uid).cloned()
    }

    /// The handle of the pod of that name: the running one when there are several.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Handle> {
        let state = self.inner.state.lock();
        let named = state.workers.values().filter(|handle| {
            let input = handle.input.borrow();
            pod::namespace(&input.pod) == namespace && pod::name(&input.pod) == name
        });
        named.min_by_key(|handle| handle.input.borrow().removed).cloned()
    }

    /// Something ended in the runtime: whose it is looks at it.
    pub fn container_ended(&self, id: &str) {
        for handle in self.inner.state.lock().workers.values() {
            let view = handle.shared.view.lock();
            let is_theirs =
                view.containers.iter().any(|container| container.id == id && container.state != runtime::State::Exited)
                    || view.sandboxes.iter().any(|sandbox| sandbox.id == id && sandbox.ready);
            drop(view);
            if is_theirs {
                return handle.ended(id);
            }
        }
    }

    pub fn handles(&self) -> Vec<Handle> {
        self.inner.state.lock().workers.values().cloned().collect()
    }

    /// The pods with their status as it is now.
    pub fn list(&self) -> Vec<Pod> {
        let with_status = |handle: Handle| {
            let mut pod = Pod::clone(&handle.input.borrow().pod);
            pod.status = Some(handle.shared.status.lock().clone());
            pod
        };
        self.handles().into_iter().map(with_status).collect()
    }
}
