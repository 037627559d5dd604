//! NodeResourcesBalancedAllocation: nodes are better the more alike the used shares of their resources would be.

use serde::Deserialize;

use crate::cache::Cache;
use crate::framework::{CycleState, MAX_NODE_SCORE, Plugin, Point, Points, PreScore};
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::plugins::fit::{ArgsError, ResourceSpec, Usage};
use crate::pod::Pod;

pub const NAME: &str = "NodeResourcesBalancedAllocation";

/// `NodeResourcesBalancedAllocationArgs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Args {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    #[serde(default)]
    resources: Vec<ResourceSpec>,
}

/// 100 for equal shares, less by their standard deviation.
pub fn balance(shares: &[f64]) -> i64 {
    let deviation = match shares {
        [] | [_] => 0.0,
        [a, b] => (a - b).abs() / 2.0,
        _ => {
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            (shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / shares.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

pub struct BalancedAllocation {
    resources: Vec<Str>,
}

impl BalancedAllocation {
    pub fn new(args: &Args) -> Result<Self, ArgsError> {
        let weights = crate::plugins::fit::weights(&args.resources)?;
        Ok(Self { resources: weights.into_iter().map(|(name, _)| name).collect() })
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreScore, Point::Score])
    }

    /// A pod that asks for nothing of these cannot disturb any balance.
    fn pre_score(&self, _: &mut CycleState, pod: &Pod, _: &Cache, _: &[usize]) -> PreScore {
        let asks = self.resources.iter().any(|r| pod.requests.exact.get(r) > 0);
        if asks { PreScore::Score } else { PreScore::Skip }
    }

    fn score(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> i64 {
        let usages = self.resources.iter().filter_map(|r| Usage::exact(r, pod, node));
        let shares: smallvec::SmallVec<[f64; 4]> =
            usages.map(|u| (u.requested as f64 / u.allocatable as f64).min(1.0)).collect();
        balance(&shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NodeBuilder, PodBuilder};
    use serde_json::json;

    #[test]
    fn equal_shares_are_best() {
        for (shares, expected) in [
            (&[][..], 100),
            (&[0.7], 100),
            (&[0.5, 0.5], 100),
            (&[1.0, 0.0], 50),
            (&[0.6, 0.2], 80),
            (&[0.0, 0.5, 1.0], 59),
        ] {
            assert_eq!(balance(shares), expected, "{shares:?}");
        }
    }

    #[test]
    fn the_pod_counts_on_the_node() {
        let plugin = BalancedAllocation::new(&Args::default()).unwrap();
        let node = NodeInfo::new(NodeBuilder::new("n").build());
        let score =
            |requests| plugin.score(&CycleState::default(), &PodBuilder::new("p").requests(requests).build(), &node);
        assert_eq!(score(json!({"cpu": "2", "memory": "8Gi"})), 100);
        assert_eq!(score(json!({"cpu": "2"})), 75);
    }
}
