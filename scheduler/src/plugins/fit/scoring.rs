//! The scoring strategies: how good a node is, by how much of each resource would be used with the pod on it.

use crate::framework::MAX_NODE_SCORE;
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::pod::Pod;

/// How much of one resource would be used, and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub requested: i64,
    pub allocatable: i64,
}

impl Usage {
    /// The use of a resource with the pod on the node. For cpu and memory, containers that ask for nothing count with defaults.
    /// `None` if the node has nothing of it, or if it is an extended resource that the pod does not ask for.
    pub fn assumed(resource: &str, pod: &Pod, node: &NodeInfo) -> Option<Self> {
        let requested = match resource {
            "cpu" => node.non_zero_milli_cpu + pod.requests.non_zero_milli_cpu,
            "memory" => node.non_zero_memory + pod.requests.non_zero_memory,
            _ => return Self::exact(resource, pod, node),
        };
        let allocatable = node.node.allocatable.get(resource);
        (allocatable > 0).then_some(Self { requested, allocatable })
    }

    /// The use of a resource with the pod on the node, counting only what is asked for.
    pub fn exact(resource: &str, pod: &Pod, node: &NodeInfo) -> Option<Self> {
        let wanted = pod.requests.exact.get(resource);
        let is_extended = !matches!(resource, "cpu" | "memory" | "ephemeral-storage");
        if is_extended && wanted == 0 {
            return None;
        }
        let allocatable = node.node.allocatable.get(resource);
        (allocatable > 0).then_some(Self { requested: node.requested.get(resource) + wanted, allocatable })
    }
}

#[derive(Clone, Debug)]
enum Measure {
    Least,
    Most,
    /// Points (utilization in percent, score), joined by lines.
    Shape(Vec<(i64, i64)>),
}

#[derive(Clone, Debug)]
pub struct Strategy {
    resources: Vec<(Str, i64)>,
    measure: Measure,
}

impl Strategy {
    pub fn least_allocated(resources: Vec<(Str, i64)>) -> Self {
        Self { resources, measure: Measure::Least }
    }

    pub fn most_allocated(resources: Vec<(Str, i64)>) -> Self {
        Self { resources, measure: Measure::Most }
    }

    pub fn by_shape(resources: Vec<(Str, i64)>, shape: Vec<(i64, i64)>) -> Self {
        Self { resources, measure: Measure::Shape(shape) }
    }

    /// The weighted mean over the resources that count on this node.
    pub fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for (resource, weight) in &self.resources {
            let Some(usage) = Usage::assumed(resource, pod, node) else { continue };
            let score = self.measure.score(usage);
            if matches!(self.measure, Measure::Shape(_)) && score <= 0 {
                continue;
            }
            sum += score * weight;
            weights += weight;
        }
        match (&self.measure, weights) {
            (_, 0) => 0,
            (Measure::Shape(_), weights) => (sum as f64 / weights as f64).round() as i64,
            (_, weights) => sum / weights,
        }
    }
}

impl Measure {
    fn score(&self, Usage { requested, allocatable }: Usage) -> i64 {
        match self {
            Self::Least if requested > allocatable => 0,
            Self::Least => share(allocatable - requested, allocatable),
            Self::Most => share(requested.min(allocatable), allocatable),
            Self::Shape(points) if requested > allocatable => along(points, 100),
            Self::Shape(points) => along(points, share(requested, allocatable)),
        }
    }
}

fn share(part: i64, whole: i64) -> i64 {
    (i128::from(part) * i128::from(MAX_NODE_SCORE) / i128::from(whole)) as i64
}

fn along(points: &[(i64, i64)], x: i64) -> i64 {
    let Some(next) = points.iter().position(|(at, _)| x <= *at) else {
        return points.last().map_or(0, |(_, score)| *score);
    };
    let (x1, y1) = points[next];
    match next.checked_sub(1).map(|previous| points[previous]) {
        Some((x0, y0)) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        None => y1,
    }
}
