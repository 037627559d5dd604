//! The cluster as scheduling sees it: nodes with the pods bound to them, and those assumed to be bound soon.
//!
//! It is changed only between cycles, by the task that owns it, so a cycle reads it in place. An assumed pod counts like a bound one
//! until the API confirms it, its binding fails (`forget`), or the confirmation stays out for too long (`expire`).

mod order;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::groups::Groups;
use crate::labels::{Labels, Str};
use crate::node::{Node, NodeInfo};
use crate::pod::Pod;
use crate::selector::Selector;

/// Changes of slots that are remembered for those who keep sums over all nodes.
const LOGGED_CHANGES: usize = 4096;

/// Tells caches apart.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
pub struct Cache {
    id: u64,
    /// Slots of nodes; a removed node's slot is used again.
    slots: Vec<Option<NodeInfo>>,
    free: Vec<usize>,
    by_name: HashMap<Str, usize>,
    /// Slots in the order nodes are tried: zones in turn.
    order: Vec<usize>,
    /// By slot, the position in `order`.
    positions: Vec<usize>,
    order_is_stale: bool,
    pods: HashMap<Str, Placement>,
    /// Pods whose node is not known (yet, or any more).
    homeless: HashMap<Str, Vec<Arc<Pod>>>,
    /// Images on nodes, and on how many nodes each is.
    images: HashMap<Str, ImageState>,
    nodes_preferring_no_schedule: usize,
    /// Labels of namespaces.
    namespaces: HashMap<Str, Labels>,
    /// Disruption budgets by their keys.
    budgets: HashMap<Str, Budget>,
    /// What Services and controllers select by.
    pub groups: Groups,
    /// Placed pods that want to be near others, or away from them.
    pods_with_affinity: usize,
    /// Grows by one with every change of a slot.
    generation: u64,
    /// The slots of the last changes, the newest last.
    changes: VecDeque<usize>,
    /// How long an assumed pod may stay unconfirmed after its binding was accepted; `None`: for ever.
    assumed_lifetime: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageState {
    pub size: i64,
    pub nodes: usize,
}

/// How many pods of a kind may still be disrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub namespace: Str,
    pub selector: Selector,
    pub allowed: i32,
}

impl Budget {
    /// Whether it is for a pod.
    pub fn covers(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace && self.selector.matches(&pod.labels)
    }
}

#[derive(Debug)]
struct Placement {
    pod: Arc<Pod>,
    node: Str,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The API says it is bound.
    Bound,
    /// Chosen; the binding is under way.
    Assumed,
    /// The API accepted the binding; the watch has yet to show it.
    Unconfirmed { deadline: Option<Instant> },
}

impl Cache {
    pub fn new(assumed_lifetime: Option<Duration>) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), assumed_lifetime, ..Self::default() }
    }

    /// Which cache this is, and its state.
    pub fn version(&self) -> (u64, u64) {
        (self.id, self.generation)
    }

    /// The slots that have changed since a version, some perhaps more than once; `None` if that is too long ago, or another cache's.
    pub fn changes_since(&self, (id, generation): (u64, u64)) -> Option<impl Iterator<Item = usize> + '_> {
        let count = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        (id == self.id && count <= self.changes.len()).then(|| self.changes.iter().rev().take(count).copied())
    }

    /// All slots, with their nodes.
    pub fn slots(&self) -> &[Option<NodeInfo>] {
        &self.slots
    }

    fn changed(&mut self, slot: usize) -> u64 {
        self.generation += 1;
        self.changes.push_back(slot);
        if self.changes.len() > LOGGED_CHANGES {
            self.changes.pop_front();
        }
        self.generation
    }

    /// The labels of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// What was added up with other labels holds no more.
    pub fn set_namespace(&mut self, name: Str, labels: Labels) {
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name, labels);
            self.id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub fn namespace_names(&self) -> impl Iterator<Item = &Str> {
        self.namespaces.keys()
    }

    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    pub fn set_budget(&mut self, key: Str, budget: Budget) {
        self.budgets.insert(key, budget);
    }

    pub fn remove_budget(&mut self, key: &str) {
        self.budgets.remove(key);
    }

    pub fn budget_keys(&self) -> impl Iterator<Item = &Str> {
        self.budgets.keys()
    }

    /// Whether any placed pod wants to be near others, or away from them.
    pub fn has_affinity(&self) -> bool {
        self.pods_with_affinity > 0
    }

    pub fn node_count(&self) -> usize {
        self.by_name.len()
    }

    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    pub fn assumed_count(&self) -> usize {
        self.pods.values().filter(|p| p.state != State::Bound).count()
    }

    /// The nodes in the order in which they are tried.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        debug_assert!(!self.order_is_stale, "refresh the order before a cycle");
        self.order.iter().map(|slot| self.slot(*slot))
    }

    /// The node at a position of the order.
    pub fn node_at(&self, position: usize) -> &NodeInfo {
        self.slot(self.order[position])
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).map(|slot| self.slot(*slot))
    }

    /// The position of the node in the order.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).map(|slot| self.positions[*slot])
    }

    fn slot(&self, slot: usize) -> &NodeInfo {
        self.slots[slot].as_ref().expect("the index names only slots that are taken")
    }

    fn slot_mut(&mut self, name: &str) -> Option<&mut NodeInfo> {
        let slot = *self.by_name.get(name)?;
        let generation = self.changed(slot);
        let info = self.slots[slot].as_mut().expect("the index names only slots that are taken");
        info.generation = generation;
        Some(info)
    }

    pub fn image(&self, name: &str) -> Option<ImageState> {
        self.images.get(name).copied()
    }

    /// Whether any node has a taint of effect PreferNoSchedule.
    pub fn has_preferences_against_nodes(&self) -> bool {
        self.nodes_preferring_no_schedule > 0
    }

    pub fn names(&self) -> impl Iterator<Item = &Str> {
        self.by_name.keys()
    }

    pub fn pod_uids(&self) -> impl Iterator<Item = &Str> {
        self.pods.keys()
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    pub fn placed_pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|p| &p.pod)
    }

    /// Brings the order of nodes up to date; to be called before a cycle.
    pub fn refresh(&mut self) {
        if self.order_is_stale {
            let slots = self.slots.iter().enumerate().filter_map(|(i, info)| Some((i, info.as_ref()?)));
            self.order = order::by_zones_in_turn(slots.map(|(i, info)| (i, info.node.zone())));
            self.positions = vec![0; self.slots.len()];
            for (position, slot) in self.order.iter().enumerate() {
                self.positions[*slot] = position;
            }
            self.order_is_stale = false;
        }
    }

    /// Adds a node, or replaces what was known of it. Returns the earlier version.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let old = self.slot_mut(&node.name).map(|info| std::mem::replace(&mut info.node, node.clone()));
        match &old {
            Some(old) => {
                self.order_is_stale |= old.zone() != node.zone();
                self.count_node(&old.clone(), false);
            }
            None => self.insert_node(node.clone()),
        }
        self.count_node(&node, true);
        old
    }

    fn insert_node(&mut self, node: Arc<Node>) {
        let mut info = NodeInfo::new(node.clone());
        for pod in self.homeless.remove(&node.name).into_iter().flatten() {
            info.add_pod(pod);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        info.generation = self.changed(slot);
        self.slots[slot] = Some(info);
        self.by_name.insert(node.name.clone(), slot);
        self.order_is_stale = true;
    }

    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let slot = self.by_name.remove(name)?;
        let info = self.slots[slot].take()?;
        self.changed(slot);
        self.free.push(slot);
        self.order_is_stale = true;
        self.count_node(&info.node, false);
        if !info.pods.is_empty() {
            self.homeless.insert(info.node.name.clone(), info.pods);
        }
        Some(info.node)
    }

    fn count_node(&mut self, node: &Node, added: bool) {
        if node.prefers_no_schedule() {
            let count = &mut self.nodes_preferring_no_schedule;
            *count = if added { *count + 1 } else { *count - 1 };
        }
        for (name, size) in &node.images {
            let state = self.images.entry(name.clone()).or_insert(ImageState { size: *size, nodes: 0 });
            if added {
                *state = ImageState { size: *size, nodes: state.nodes + 1 };
            } else if state.nodes > 1 {
                state.nodes -= 1;
            } else {
                self.images.remove(name);
            }
        }
    }

    /// Counts a pod on the node that was chosen for it, before the API knows.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &Str) {
        self.place(pod, node.clone(), State::Assumed);
    }

    /// The API accepted the binding of an assumed pod.
    pub fn binding_accepted(&mut self, uid: &str, now: Instant) {
        let deadline = self.assumed_lifetime.map(|lifetime| now + lifetime);
        if let Some(placement) = self.pods.get_mut(uid).filter(|p| p.state == State::Assumed) {
            placement.state = State::Unconfirmed { deadline };
        }
    }

    /// Takes back an assumed pod. A pod that the API showed as bound in the meantime stays.
    pub fn forget(&mut self, uid: &str) -> Option<Arc<Pod>> {
        if self.pods.get(uid)?.state == State::Bound { None } else { self.remove_pod(uid) }
    }

    /// Takes back the assumed pods whose confirmation is overdue.
    pub fn expire(&mut self, now: Instant) -> Vec<Arc<Pod>> {
        let overdue =
            |p: &&Placement| matches!(p.state, State::Unconfirmed { deadline: Some(deadline) } if deadline <= now);
        let uids: Vec<Str> = self.pods.values().filter(overdue).map(|p| p.pod.uid.clone()).collect();
        uids.iter().filter_map(|uid| self.remove_pod(uid)).collect()
    }

    /// Takes what the API says of a pod bound to `node`; it confirms, corrects or replaces what was known.
    /// Returns the earlier version.
    pub fn set_pod(&mut self, pod: Arc<Pod>, node: &Str) -> Option<Arc<Pod>> {
        self.place(pod, node.clone(), State::Bound)
    }

    fn place(&mut self, pod: Arc<Pod>, node: Str, state: State) -> Option<Arc<Pod>> {
        let old = self.remove_pod(&pod.uid);
        match self.slot_mut(&node) {
            Some(info) => info.add_pod(pod.clone()),
            None => self.homeless.entry(node.clone()).or_default().push(pod.clone()),
        }
        self.pods_with_affinity += usize::from(pod.affinity.is_some());
        self.pods.insert(pod.uid.clone(), Placement { pod, node, state });
        old
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let placement = self.pods.remove(uid)?;
        self.pods_with_affinity -= usize::from(placement.pod.affinity.is_some());
        if let Some(info) = self.slot_mut(&placement.node) {
            info.remove_pod(uid);
        } else if let Some(pods) = self.homeless.get_mut(&placement.node) {
            pods.retain(|p| &*p.uid != uid);
            if pods.is_empty() {
                self.homeless.remove(&placement.node);
            }
        }
        Some(placement.pod)
    }
}

#[cfg(test)]
mod tests;
