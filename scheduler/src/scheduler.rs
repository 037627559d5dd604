//! The scheduler's whole state, owned by one task: `apply` takes what happened, `next` runs one cycle and says what is to be done.
//! Neither waits for anything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::cache::{Budget, Cache};
use crate::cycle::{Choice, Cycle, Failure};
use crate::framework::{CycleState, Event, Permission, Point, Profile, Remedy, Status};
use crate::groups;
use crate::labels::{Labels, Str};
use crate::node::Node;
use crate::pod::Pod;
use crate::queue::{Nominated, Profiles, Queue, QueuedPod, Setback, Settings, Sizes};
use crate::selector::Selector;

/// The reasons of the condition PodScheduled=False.
pub const UNSCHEDULABLE: &str = "Unschedulable";
pub const SCHEDULER_ERROR: &str = "SchedulerError";
const NO_NODES: &str = "no nodes available to schedule pods";

/// What happened, as the watches and the binding tasks report it.
#[derive(Debug)]
pub enum Input {
    Pod(Arc<Pod>),
    PodGone {
        uid: Str,
    },
    /// A list of all pods: those not in it are gone.
    AllPods(Vec<Arc<Pod>>),
    Node(Arc<Node>),
    NodeGone {
        name: Str,
    },
    AllNodes(Vec<Arc<Node>>),
    Namespace {
        name: Str,
        labels: Labels,
    },
    NamespaceGone {
        name: Str,
    },
    AllNamespaces(Vec<(Str, Labels)>),
    Budget {
        key: Str,
        budget: Budget,
    },
    BudgetGone {
        key: Str,
    },
    AllBudgets(Vec<(Str, Budget)>),
    Group {
        key: groups::Key,
        selector: Selector,
    },
    GroupGone {
        key: groups::Key,
    },
    AllGroups {
        kind: groups::Kind,
        all: Vec<(groups::Key, Selector)>,
    },
    /// The binding of an assumed pod ended.
    BindingEnded {
        uid: Str,
        result: Result<(), Setback>,
    },
}

/// What is to be done after a cycle.
pub enum Outcome {
    /// A node was chosen and its resources are set aside; the binding is to be carried out.
    Assigned(Assignment),
    /// The pod's condition and an event must say why not.
    Failed(Rejection),
    /// The pod needs no scheduling any more.
    Dropped,
}

/// A pod that is to be bound.
pub struct Assignment {
    pub pod: Arc<Pod>,
    pub node: Str,
    pub profile: Arc<Profile>,
    pub attempts: u32,
    /// How long it has waited since it first came.
    pub waited: Duration,
    /// What permit plugins must allow first, and for how long to wait for each.
    pub waits_for: Vec<(&'static str, Duration)>,
}

/// A pod that was not placed.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub pod: Arc<Pod>,
    pub reason: &'static str,
    pub message: String,
    pub promise: Promise,
}

/// What becomes of the promise of a node to a pod that was not placed.
#[derive(Clone, Debug, Default)]
pub enum Promise {
    #[default]
    Unchanged,
    Withdrawn,
    Made(MadeRoom),
}

/// How a place is made.
#[derive(Clone, Debug)]
pub struct MadeRoom {
    pub node: Str,
    /// Pods that are to be deleted.
    pub victims: Vec<Arc<Pod>>,
    /// Pods that the node was promised to before.
    pub displaced: Vec<Arc<Pod>>,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub queue: Settings,
    pub percentage_of_nodes_to_score: u32,
    pub assumed_lifetime: Option<Duration>,
}

pub struct Scheduler {
    cache: Cache,
    queue: Queue,
    nominated: Nominated,
    profiles: Arc<Profiles>,
    /// Pods that were taken from the queue and are being bound.
    in_flight: HashMap<Str, QueuedPod>,
    percentage_of_nodes_to_score: u32,
    /// Where the next search begins.
    start: usize,
    rng: SmallRng,
}

impl Scheduler {
    pub fn new(profiles: Profiles, options: Options) -> Self {
        Self {
            cache: Cache::new(options.assumed_lifetime),
            queue: Queue::new(options.queue),
            nominated: Nominated::default(),
            profiles: Arc::new(profiles),
            in_flight: HashMap::new(),
            percentage_of_nodes_to_score: options.percentage_of_nodes_to_score,
            start: 0,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    pub fn queue_sizes(&self) -> Sizes {
        self.queue.sizes()
    }

    /// How many pods are being bound.
    pub fn binding_count(&self) -> usize {
        self.in_flight.len()
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// When something is due although nothing happens.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub fn apply(&mut self, input: Input, now: Instant) {
        match input {
            Input::Pod(pod) => self.set_pod(pod, now),
            Input::PodGone { uid } => self.remove_pod(&uid, now),
            Input::AllPods(pods) => self.replace_pods(pods, now),
            Input::Node(node) => self.set_node(node, now),
            Input::NodeGone { name } => drop(self.cache.remove_node(&name)),
            Input::AllNodes(nodes) => self.replace_nodes(nodes, now),
            Input::Namespace { name, labels } => self.cache.set_namespace(name, labels),
            Input::NamespaceGone { name } => self.cache.remove_namespace(&name),
            Input::AllNamespaces(all) => {
                let gone = missing(self.cache.namespace_names(), &all);
                gone.iter().for_each(|name| self.cache.remove_namespace(name));
                all.into_iter().for_each(|(name, labels)| self.cache.set_namespace(name, labels));
            }
            Input::Budget { key, budget } => self.cache.set_budget(key, budget),
            Input::BudgetGone { key } => self.cache.remove_budget(&key),
            Input::AllBudgets(all) => {
                let gone = missing(self.cache.budget_keys(), &all);
                gone.iter().for_each(|key| self.cache.remove_budget(key));
                all.into_iter().for_each(|(key, budget)| self.cache.set_budget(key, budget));
            }
            Input::Group { key, selector } => self.cache.groups.set(key, selector),
            Input::GroupGone { key } => self.cache.groups.remove(&key),
            Input::AllGroups { kind, all } => self.cache.groups.replace(kind, all),
            Input::BindingEnded { uid, result } => self.binding_ended(&uid, result, now),
        }
    }

    fn set_node(&mut self, node: Arc<Node>, now: Instant) {
        let event = match self.cache.set_node(node.clone()) {
            None => Event::NodeAdded(node),
            Some(old) if old == node => return,
            Some(old) => Event::NodeUpdated { old, new: node },
        };
        self.happened(&event, now);
    }

    fn replace_nodes(&mut self, nodes: Vec<Arc<Node>>, now: Instant) {
        let listed: HashSet<&Str> = nodes.iter().map(|n| &n.name).collect();
        for name in self.cache.names().filter(|n| !listed.contains(n)).cloned().collect::<Vec<_>>() {
            self.cache.remove_node(&name);
        }
        for node in nodes {
            self.set_node(node, now);
        }
    }

    fn replace_pods(&mut self, pods: Vec<Arc<Pod>>, now: Instant) {
        let listed: HashSet<&Str> = pods.iter().map(|p| &p.uid).collect();
        let known = self.cache.pod_uids().chain(self.queue.uids()).chain(self.in_flight.keys());
        for uid in known.filter(|uid| !listed.contains(uid)).cloned().collect::<Vec<_>>() {
            self.remove_pod(&uid, now);
        }
        for pod in pods {
            self.set_pod(pod, now);
        }
    }

    fn set_pod(&mut self, pod: Arc<Pod>, now: Instant) {
        match pod.node.clone() {
            _ if pod.is_terminal => self.remove_pod(&pod.uid, now),
            Some(node) => self.set_assigned(pod, &node, now),
            None => self.set_waiting(pod, now),
        }
    }

    fn set_assigned(&mut self, pod: Arc<Pod>, node: &Str, now: Instant) {
        self.queue.remove(&pod.uid);
        self.nominated.remove(&pod.uid);
        // The assumption is not news; its confirmation is not either.
        let event = match self.cache.set_pod(pod.clone(), node) {
            None => Event::PodAssigned(pod),
            Some(old) => Event::AssignedPodUpdated { old, new: pod },
        };
        self.happened(&event, now);
    }

    fn set_waiting(&mut self, pod: Arc<Pod>, now: Instant) {
        if !self.profiles.contains_key(&pod.scheduler_name) {
            return;
        }
        if let Some(queued) = self.in_flight.get_mut(&pod.uid) {
            queued.pod = pod;
        } else if pod.is_terminating {
            // It will never run: nothing is to be found for it.
            self.queue.remove(&pod.uid);
            self.nominated.remove(&pod.uid);
        } else {
            let promised = self.promised(&pod);
            self.nominated.set(&pod, promised.as_ref());
            self.queue.set(pod, &self.profiles, now);
        }
    }

    /// The node that the pod is promised, which its object may not show yet.
    fn promised(&self, pod: &Pod) -> Option<Str> {
        let was_shown = self.queue.get(&pod.uid).is_some_and(|known| known.nominated_node.is_some());
        let unshown = || self.nominated.node_of(&pod.uid).filter(|_| !was_shown).cloned();
        pod.nominated_node.clone().or_else(unshown)
    }

    fn remove_pod(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        self.in_flight.remove(uid);
        self.nominated.remove(uid);
        if let Some(pod) = self.cache.remove_pod(uid) {
            self.happened(&Event::AssignedPodDeleted(pod), now);
        }
    }

    fn happened(&mut self, event: &Event, now: Instant) {
        self.queue.on_event(event, &self.profiles, now);
    }

    fn binding_ended(&mut self, uid: &str, result: Result<(), Setback>, now: Instant) {
        let Some(queued) = self.in_flight.remove(uid) else {
            // It was deleted while it was being bound; its place in the cache went with it.
            return;
        };
        match result {
            Ok(()) => self.cache.binding_accepted(uid, now),
            Err(setback) => {
                let Some(freed) = self.cache.forget(uid) else { return };
                self.queue.put_back(queued, setback, now);
                self.happened(&Event::AssignedPodDeleted(freed), now);
            }
        }
    }

    /// Runs one cycle, for the pod whose turn it is. `None`: no pod can be tried now.
    pub fn next(&mut self, now: Instant) -> Option<Outcome> {
        for pod in self.cache.expire(now) {
            tracing::warn!(pod = pod.key(), "an assumed pod was never shown as bound; it is no longer counted");
        }
        let queued = self.queue.pop(&self.profiles, now)?;
        let profiles = self.profiles.clone();
        let Some(profile) = profiles.get(&queued.pod.scheduler_name) else { return Some(Outcome::Dropped) };
        if self.cache.is_placed(&queued.pod.uid) {
            return Some(Outcome::Dropped);
        }
        self.cache.refresh();
        let cycle = Cycle {
            profile,
            cache: &self.cache,
            nominated: &self.nominated,
            percentage_of_nodes_to_score: self.percentage_of_nodes_to_score,
        };
        Some(match cycle.choose(&queued.pod, &mut self.start, &mut self.rng) {
            Ok(choice) => self.assign(queued, choice, profile, now),
            Err(failure) => self.fail(queued, failure, now),
        })
    }

    fn assign(&mut self, queued: QueuedPod, choice: Choice, profile: &Arc<Profile>, now: Instant) -> Outcome {
        let Choice { node, mut state } = choice;
        self.cache.assume(queued.pod.clone(), &node);
        let waits_for = match reserve_and_permit(profile, &mut state, &queued.pod, &node) {
            Ok(waits_for) => waits_for,
            Err(status) => {
                self.cache.forget(&queued.pod.uid);
                return self.fail(queued, Failure::Error(status), now);
            }
        };
        self.nominated.remove(&queued.pod.uid);
        let assignment = Assignment {
            pod: queued.pod.clone(),
            node,
            profile: profile.clone(),
            attempts: queued.attempts,
            waited: now.duration_since(queued.came),
            waits_for,
        };
        self.in_flight.insert(queued.pod.uid.clone(), queued);
        Outcome::Assigned(assignment)
    }

    fn fail(&mut self, queued: QueuedPod, failure: Failure, now: Instant) -> Outcome {
        let pod = queued.pod.clone();
        let mut promise = Promise::Unchanged;
        let (reason, message, setback) = match failure {
            Failure::NoNodes => (UNSCHEDULABLE, NO_NODES.to_owned(), Setback::Rejected { by: profile_wide() }),
            Failure::Unfit(diagnosis, remedy) => {
                let message = diagnosis.message(self.cache.node_count());
                promise = self.promise(&pod, remedy);
                (UNSCHEDULABLE, message, Setback::Rejected { by: diagnosis.rejected_by })
            }
            Failure::Error(status) if status.is_rejection() => {
                (UNSCHEDULABLE, status.message(), Setback::Rejected { by: vec![status.plugin] })
            }
            Failure::Error(status) => (SCHEDULER_ERROR, status.message(), Setback::Error),
        };
        self.queue.put_back(queued, setback, now);
        Outcome::Failed(Rejection { pod, reason, message, promise })
    }

    /// The pod is promised the node that is being freed for it; less important ones that it was promised to look elsewhere.
    fn promise(&mut self, pod: &Arc<Pod>, remedy: Remedy) -> Promise {
        match remedy {
            Remedy::Preempt { node, victims } => {
                let displaced = self.nominated.take_below(&node, pod.priority);
                self.nominated.set(pod, Some(&node));
                Promise::Made(MadeRoom { node, victims, displaced })
            }
            Remedy::Hopeless if self.promised(pod).is_some() => {
                self.nominated.remove(&pod.uid);
                Promise::Withdrawn
            }
            Remedy::Hopeless | Remedy::Wait => Promise::Unchanged,
        }
    }
}

/// Those that are known and not in a list of all.
fn missing<'a, T>(known: impl Iterator<Item = &'a Str>, all: &[(Str, T)]) -> Vec<Str> {
    let listed: HashSet<&Str> = all.iter().map(|(name, _)| name).collect();
    known.filter(|name| !listed.contains(name)).cloned().collect()
}

/// A cluster without nodes is as if NodeName had refused every one: the first node that comes is worth a try.
fn profile_wide() -> Vec<&'static str> {
    vec![crate::plugins::node_name::NAME]
}

/// Asks reserve and permit plugins; a refusal undoes the reservations.
fn reserve_and_permit(
    profile: &Profile,
    state: &mut CycleState,
    pod: &Pod,
    node: &Str,
) -> Result<Vec<(&'static str, Duration)>, Status> {
    let refuse = |status: Status, plugin| {
        unreserve(profile, pod, node);
        Err(status.by(plugin))
    };
    for enabled in profile.at(Point::Reserve) {
        let status = enabled.plugin.reserve(state, pod, node);
        if !status.is_success() {
            return refuse(status, enabled.plugin.name());
        }
    }
    let mut waits_for = Vec::new();
    for enabled in profile.at(Point::Permit) {
        match enabled.plugin.permit(state, pod, node) {
            Ok(Permission::Allow) => {}
            Ok(Permission::Wait(longest)) => waits_for.push((enabled.plugin.name(), longest)),
            Err(status) => return refuse(status, enabled.plugin.name()),
        }
    }
    Ok(waits_for)
}

/// Undoes the reservations, in the opposite order.
pub fn unreserve(profile: &Profile, pod: &Pod, node: &Str) {
    for enabled in profile.at(Point::Reserve).iter().rev() {
        enabled.plugin.unreserve(pod, node);
    }
}

#[cfg(test)]
mod tests;
