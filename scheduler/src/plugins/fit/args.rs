//! `NodeResourcesFitArgs`.

use serde::Deserialize;

use super::Strategy;
use crate::labels::Str;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgsError {
    #[error("scoringStrategy.type: {0:?} is not one of LeastAllocated, MostAllocated, RequestedToCapacityRatio")]
    UnknownStrategy(String),
    #[error("scoringStrategy.resources: the weight of {0} is not between 1 and 100")]
    Weight(String),
    #[error("scoringStrategy.requestedToCapacityRatio.shape: at least one point is needed")]
    NoShape,
    #[error(
        "scoringStrategy.requestedToCapacityRatio.shape: utilization must rise within 0..=100, and scores lie within 0..=10"
    )]
    Shape,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSpec {
    pub name: String,
    #[serde(default)]
    pub weight: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Args {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    #[serde(default)]
    ignored_resources: Vec<String>,
    #[serde(default)]
    ignored_resource_groups: Vec<String>,
    #[serde(default)]
    scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScoringStrategy {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    resources: Vec<ResourceSpec>,
    #[serde(default)]
    requested_to_capacity_ratio: Option<RequestedToCapacityRatio>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestedToCapacityRatio {
    #[serde(default)]
    shape: Vec<ShapePoint>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShapePoint {
    utilization: i64,
    score: i64,
}

/// The scale of scores in a shape; nodes' scores reach 100.
const MAX_SHAPE_SCORE: i64 = 10;

impl Args {
    /// Whether the resource is left to someone else (an extender).
    pub fn ignores(&self, name: &Str) -> bool {
        let group = name.split_once('/').map(|(group, _)| group);
        self.ignored_resources.iter().any(|r| **r == **name)
            || group.is_some_and(|group| self.ignored_resource_groups.iter().any(|g| g == group))
    }

    pub fn strategy(&self) -> Result<Strategy, ArgsError> {
        let given = self.scoring_strategy.clone().unwrap_or_default();
        let resources = weights(&given.resources)?;
        match given.kind.as_str() {
            "" | "LeastAllocated" => Ok(Strategy::least_allocated(resources)),
            "MostAllocated" => Ok(Strategy::most_allocated(resources)),
            "RequestedToCapacityRatio" => {
                let shape = shape(&given.requested_to_capacity_ratio.unwrap_or_default().shape)?;
                Ok(Strategy::by_shape(resources, shape))
            }
            other => Err(ArgsError::UnknownStrategy(other.to_owned())),
        }
    }
}

/// Resources with their weights; cpu and memory alike if none are given.
pub fn weights(resources: &[ResourceSpec]) -> Result<Vec<(Str, i64)>, ArgsError> {
    if resources.is_empty() {
        return Ok(vec![("cpu".into(), 1), ("memory".into(), 1)]);
    }
    let weight = |r: &ResourceSpec| match r.weight {
        0 => Ok((Str::from(r.name.as_str()), 1)),
        1..=100 => Ok((Str::from(r.name.as_str()), r.weight)),
        _ => Err(ArgsError::Weight(r.name.clone())),
    };
    resources.iter().map(weight).collect()
}

fn shape(points: &[ShapePoint]) -> Result<Vec<(i64, i64)>, ArgsError> {
    if points.is_empty() {
        return Err(ArgsError::NoShape);
    }
    let in_range = |p: &ShapePoint| (0..=100).contains(&p.utilization) && (0..=MAX_SHAPE_SCORE).contains(&p.score);
    if !points.iter().all(in_range) || points.windows(2).any(|p| p[0].utilization >= p[1].utilization) {
        return Err(ArgsError::Shape);
    }
    let scale = crate::framework::MAX_NODE_SCORE / MAX_SHAPE_SCORE;
    Ok(points.iter().map(|p| (p.utilization, p.score * scale)).collect())
}
