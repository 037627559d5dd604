//! What happens in the cluster that can make a rejected pod schedulable.

use std::ops::BitOr;
use std::sync::Arc;

use crate::node::Node;
use crate::pod::Pod;

/// A set of kinds of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u32);

impl Actions {
    pub const NONE: Self = Self(0);
    pub const NODE_ADD: Self = Self(1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    pub const NODE_LABEL: Self = Self(1 << 2);
    /// Taints, and being cordoned.
    pub const NODE_TAINT: Self = Self(1 << 3);
    /// A pod was bound to a node, here or by someone else.
    pub const ASSIGNED_POD_ADD: Self = Self(1 << 4);
    /// A pod that was bound is gone, finished, or asks for less.
    pub const ASSIGNED_POD_DELETE: Self = Self(1 << 5);
    pub const ASSIGNED_POD_LABEL: Self = Self(1 << 6);
    /// The waiting pod itself was changed.
    pub const POD_UPDATE: Self = Self(1 << 7);

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    NodeAdded(Arc<Node>),
    NodeUpdated {
        old: Arc<Node>,
        new: Arc<Node>,
    },
    PodAssigned(Arc<Pod>),
    AssignedPodUpdated {
        old: Arc<Pod>,
        new: Arc<Pod>,
    },
    AssignedPodDeleted(Arc<Pod>),
    PodUpdated {
        old: Arc<Pod>,
        new: Arc<Pod>,
    },
    /// It has waited for too long: tried again, whatever happened.
    Timeout,
}

impl Event {
    pub fn actions(&self) -> Actions {
        match self {
            Self::NodeAdded(_) => Actions::NODE_ADD,
            Self::NodeUpdated { old, new } => node_changes(old, new),
            Self::PodAssigned(_) => Actions::ASSIGNED_POD_ADD,
            Self::AssignedPodUpdated { old, new } => assigned_pod_changes(old, new),
            Self::AssignedPodDeleted(_) => Actions::ASSIGNED_POD_DELETE,
            Self::PodUpdated { .. } => Actions::POD_UPDATE,
            Self::Timeout => Actions(u32::MAX),
        }
    }

    /// The name under which the metrics count it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeUpdated { .. } => "NodeUpdate",
            Self::PodAssigned(_) => "AssignedPodAdd",
            Self::AssignedPodUpdated { .. } => "AssignedPodUpdate",
            Self::AssignedPodDeleted(_) => "AssignedPodDelete",
            Self::PodUpdated { .. } => "UnscheduledPodUpdate",
            Self::Timeout => "UnschedulableTimeout",
        }
    }

    /// The node it is about, in its new form.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::NodeAdded(node) | Self::NodeUpdated { new: node, .. } => Some(node),
            _ => None,
        }
    }
}

fn node_changes(old: &Node, new: &Node) -> Actions {
    let when = |changed: bool, action| if changed { action } else { Actions::NONE };
    when(old.labels != new.labels, Actions::NODE_LABEL)
        | when(old.taints != new.taints || old.unschedulable != new.unschedulable, Actions::NODE_TAINT)
        | when(old.allocatable != new.allocatable || old.allowed_pods != new.allowed_pods, Actions::NODE_ALLOCATABLE)
}

fn assigned_pod_changes(old: &Pod, new: &Pod) -> Actions {
    let label = if old.labels != new.labels { Actions::ASSIGNED_POD_LABEL } else { Actions::NONE };
    let mut larger = new.requests.exact.clone();
    larger.raise_to(&old.requests.exact);
    let freed = if larger != new.requests.exact { Actions::ASSIGNED_POD_DELETE } else { Actions::NONE };
    label | freed
}

/// Whether an event is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    Queue,
    Skip,
}

impl Hint {
    pub fn queue_if(worth: bool) -> Self {
        if worth { Self::Queue } else { Self::Skip }
    }
}
