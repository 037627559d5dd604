//! NodeResourcesFit: what a pod asks for must be free on the node; and nodes are scored by how much of them is used.

mod args;
mod scoring;

use crate::cache::Cache;
use crate::framework::{Actions, Code, CycleState, Event, Hint, Plugin, Point, Points, Status};
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::resources::Resources;

pub use args::{Args, ArgsError, ResourceSpec, weights};
pub use scoring::{Strategy, Usage};

pub const NAME: &str = "NodeResourcesFit";

/// A resource of which the node has too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub reason: std::borrow::Cow<'static, str>,
    /// It asks for more than the node has in all: removing pods does not help.
    pub unresolvable: bool,
}

/// Everything that the node has too little of for the pod.
pub fn shortages(pod: &Pod, node: &NodeInfo, ignored: impl Fn(&Str) -> bool) -> Vec<Shortage> {
    let mut short = Vec::new();
    if node.pods.len() as i64 + 1 > node.node.allowed_pods {
        short.push(Shortage { reason: "Too many pods".into(), unresolvable: false });
    }
    let wanted = &pod.requests.exact;
    if wanted.is_zero() {
        return short;
    }
    let (total, used) = (&node.node.allocatable, &node.requested);
    let mut check = |want: i64, total: i64, used: i64, reason: &dyn Fn() -> std::borrow::Cow<'static, str>| {
        if want > 0 && want > total.saturating_sub(used) {
            short.push(Shortage { reason: reason(), unresolvable: want > total });
        }
    };
    check(wanted.milli_cpu, total.milli_cpu, used.milli_cpu, &|| "Insufficient cpu".into());
    check(wanted.memory, total.memory, used.memory, &|| "Insufficient memory".into());
    check(wanted.ephemeral_storage, total.ephemeral_storage, used.ephemeral_storage, &|| {
        "Insufficient ephemeral-storage".into()
    });
    for (name, want) in wanted.scalars.iter().filter(|(name, _)| !ignored(name)) {
        check(*want, total.scalar(name), used.scalar(name), &|| format!("Insufficient {name}").into());
    }
    short
}

fn to_status(short: Vec<Shortage>) -> Status {
    let code = if short.iter().any(|s| s.unresolvable) { Code::Unresolvable } else { Code::Unschedulable };
    Status::from_reasons(code, short.into_iter().map(|s| s.reason).collect())
}

/// The common case, without building a list.
fn fits_plainly(pod: &Pod, node: &NodeInfo) -> bool {
    let (wanted, total, used) = (&pod.requests.exact, &node.node.allocatable, &node.requested);
    let enough = |want: i64, total: i64, used: i64| want == 0 || want <= total - used;
    wanted.scalars.is_empty()
        && (node.pods.len() as i64) < node.node.allowed_pods
        && enough(wanted.milli_cpu, total.milli_cpu, used.milli_cpu)
        && enough(wanted.memory, total.memory, used.memory)
        && enough(wanted.ephemeral_storage, total.ephemeral_storage, used.ephemeral_storage)
}

/// Whether the node, were it empty, could take the pod.
fn fits_empty(wanted: &Resources, total: &Resources) -> bool {
    let mut larger = total.clone();
    larger.raise_to(wanted);
    larger == *total || wanted.scalars.iter().any(|(name, amount)| *amount == 0 && total.scalar(name) == 0)
}

pub struct Fit {
    args: Args,
    strategy: Strategy,
}

impl Fit {
    pub fn new(args: Args) -> Result<Self, ArgsError> {
        let strategy = args.strategy()?;
        Ok(Self { args, strategy })
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn events(&self) -> Actions {
        Actions::NODE_ADD | Actions::NODE_ALLOCATABLE | Actions::ASSIGNED_POD_DELETE | Actions::POD_UPDATE
    }

    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        Hint::queue_if(match event {
            Event::NodeAdded(node) => fits_empty(&pod.requests.exact, &node.allocatable),
            Event::NodeUpdated { old, new } => {
                fits_empty(&pod.requests.exact, &new.allocatable)
                    && (new.allocatable != old.allocatable || new.allowed_pods > old.allowed_pods)
            }
            Event::PodUpdated { old, new } => old.requests != new.requests,
            _ => true,
        })
    }

    fn filter(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        if fits_plainly(pod, node) {
            return Status::success();
        }
        to_status(shortages(pod, node, |name| self.args.ignores(name)))
    }

    fn pre_score(&self, _: &mut CycleState, _: &Pod, _: &Cache, _: &[usize]) -> crate::framework::PreScore {
        crate::framework::PreScore::Score
    }

    fn score(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> i64 {
        self.strategy.score(pod, node)
    }
}

#[cfg(test)]
mod tests;
