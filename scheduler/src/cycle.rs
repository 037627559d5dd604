//! One scheduling cycle: find nodes that fit, score them, choose one. It reads the cache and changes nothing.

mod scoring;

use rand::Rng;

use crate::cache::Cache;
use crate::diagnosis::Diagnosis;
use crate::framework::{CycleState, Point, PreFilter, Profile, Remedy, Status};
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::queue::Nominated;

/// Clusters up to this size are searched whole.
const MIN_NODES_TO_FIND: usize = 100;
/// The smallest share of a large cluster that is searched, in percent.
const MIN_PERCENTAGE: usize = 5;

/// What a cycle reads.
pub struct Cycle<'a> {
    pub profile: &'a Profile,
    pub cache: &'a Cache,
    pub nominated: &'a Nominated,
    /// The share of nodes to find, if the profile does not say.
    pub percentage_of_nodes_to_score: u32,
}

pub struct Choice {
    pub node: Str,
    pub state: CycleState,
}

#[derive(Debug)]
pub enum Failure {
    NoNodes,
    /// With how it can be made to fit.
    Unfit(Box<Diagnosis>, Remedy),
    Error(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Error(status)
    }
}

struct Feasible {
    positions: Vec<usize>,
    /// Nodes looked at.
    examined: usize,
}

impl Cycle<'_> {
    /// Chooses a node for the pod. `start` is where the search begins; it moves on, so that all nodes get their turn.
    pub fn choose(&self, pod: &Pod, start: &mut usize, rng: &mut impl Rng) -> Result<Choice, Failure> {
        if self.cache.node_count() == 0 {
            return Err(Failure::NoNodes);
        }
        let mut state = CycleState::default();
        let mut diagnosis = Diagnosis::default();
        let only = self.pre_filter(&mut state, pod, &mut diagnosis)?;
        let found = match self.nominated_position(pod, &state) {
            Some(position) => Feasible { positions: vec![position], examined: 0 },
            None => self.find(pod, &state, only, *start, &mut diagnosis)?,
        };
        *start = (*start + found.examined) % self.cache.node_count();
        let position = match found.positions[..] {
            [] => {
                let remedy = self.post_filter(&state, pod, &mut diagnosis);
                return Err(Failure::Unfit(Box::new(diagnosis), remedy));
            }
            [only] => only,
            _ => scoring::best(self, &mut state, pod, &found.positions, rng),
        };
        Ok(Choice { node: self.cache.node_at(position).name().clone(), state })
    }

    /// Asks every plugin about the pod as such. The answer is the nodes that are worth a look, if they are limited.
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &Pod,
        diagnosis: &mut Diagnosis,
    ) -> Result<Option<Vec<Str>>, Failure> {
        let mut only: Option<Vec<Str>> = None;
        let mut limiting = Vec::new();
        for enabled in self.profile.at(Point::PreFilter) {
            let name = enabled.plugin.name();
            match enabled.plugin.pre_filter(state, pod, self.cache) {
                Ok(PreFilter::All) => {}
                Ok(PreFilter::Skip) => state.skip_filter |= enabled.bit,
                Ok(PreFilter::Only(names)) => {
                    limiting.push(name);
                    only = Some(match only {
                        None => names,
                        Some(earlier) => earlier.into_iter().filter(|n| names.contains(n)).collect(),
                    });
                }
                Err(status) if status.is_rejection() => {
                    diagnosis.rejected(name);
                    diagnosis.pre_filter_message = status.message();
                    return Err(Failure::Unfit(Box::new(std::mem::take(diagnosis)), Remedy::Wait));
                }
                Err(status) => return Err(Failure::Error(status.by(name))),
            }
        }
        if let Some(names) = &only {
            limiting.sort_unstable();
            limiting.iter().for_each(|name| diagnosis.rejected(name));
            let absent = self.cache.node_count() - names.iter().filter(|n| self.cache.node(n).is_some()).count();
            if absent > 0 {
                diagnosis.count(format!("node(s) didn't satisfy plugin(s) [{}]", limiting.join(" ")).into(), absent);
            }
        }
        Ok(only)
    }

    /// Asks whether the pod can be made to fit.
    fn post_filter(&self, state: &CycleState, pod: &Pod, diagnosis: &mut Diagnosis) -> Remedy {
        let mut plugins = self.profile.at(Point::PostFilter).iter().map(|enabled| &enabled.plugin);
        plugins.find_map(|plugin| plugin.post_filter(self, state, pod, diagnosis)).unwrap_or_default()
    }

    /// The position of the node that the pod was promised, if it fits there.
    fn nominated_position(&self, pod: &Pod, state: &CycleState) -> Option<usize> {
        let name = self.nominated.node_of(&pod.uid).or(pod.nominated_node.as_ref())?;
        let position = self.cache.position(name)?;
        self.filter(pod, state, self.cache.node_at(position)).is_success().then_some(position)
    }

    fn find(
        &self,
        pod: &Pod,
        state: &CycleState,
        only: Option<Vec<Str>>,
        start: usize,
        diagnosis: &mut Diagnosis,
    ) -> Result<Feasible, Failure> {
        let count = self.cache.node_count();
        let named = only.map(|names| names.iter().filter_map(|n| self.cache.position(n)).collect::<Vec<_>>());
        let wanted = self.nodes_to_find(named.as_ref().map_or(count, Vec::len));
        let mut found = Feasible { positions: Vec::new(), examined: 0 };
        let mut examine = |position: usize| -> Result<bool, Failure> {
            let status = self.filter(pod, state, self.cache.node_at(position));
            found.examined += 1;
            if status.is_success() {
                found.positions.push(position);
            } else if status.is_rejection() {
                diagnosis.add(position, status);
            } else {
                return Err(Failure::Error(status));
            }
            Ok(found.positions.len() >= wanted)
        };
        match named {
            Some(positions) => positions.into_iter().try_for_each(|p| examine(p).map(drop))?,
            None => {
                for offset in 0..count {
                    if examine((start + offset) % count)? {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Asks the filters, once with the pods that were promised the node, if there are any, and once without: a plugin may
    /// want them there as well as away.
    pub fn filter(&self, pod: &Pod, state: &CycleState, node: &NodeInfo) -> Status {
        let mut ahead = self.nominated.ahead_of(pod, node.name()).peekable();
        if ahead.peek().is_some() {
            let (mut imagined, mut state) = (node.clone(), state.clone());
            for other in ahead {
                imagined.add_pod(other.clone());
                self.imagine(&mut state, pod, other, &imagined, true);
            }
            let status = self.run_filters(pod, &state, &imagined);
            if !status.is_success() {
                return status;
            }
        }
        self.run_filters(pod, state, node)
    }

    pub fn imagine(&self, state: &mut CycleState, pod: &Pod, other: &Pod, node: &NodeInfo, added: bool) {
        for enabled in self.profile.at(Point::PreFilter) {
            if state.skip_filter & enabled.bit == 0 {
                enabled.plugin.imagine(state, pod, other, node, self.cache, added);
            }
        }
    }

    fn run_filters(&self, pod: &Pod, state: &CycleState, node: &NodeInfo) -> Status {
        for enabled in self.profile.at(Point::Filter) {
            if state.skip_filter & enabled.bit != 0 {
                continue;
            }
            let status = enabled.plugin.filter(state, pod, node);
            if !status.is_success() {
                return status.by(enabled.plugin.name());
            }
        }
        Status::success()
    }

    fn nodes_to_find(&self, count: usize) -> usize {
        let percentage = match (self.profile.percentage_of_nodes_to_score, self.percentage_of_nodes_to_score) {
            (0, global) => global,
            (own, _) => own,
        };
        nodes_to_find(count, percentage as usize)
    }
}

/// How many feasible nodes are enough: all of a small cluster, a share of a large one that shrinks with its size.
pub fn nodes_to_find(count: usize, percentage: usize) -> usize {
    if count < MIN_NODES_TO_FIND {
        return count;
    }
    let percentage = if percentage == 0 { 50usize.saturating_sub(count / 125).max(MIN_PERCENTAGE) } else { percentage };
    (count * percentage.min(100) / 100).max(MIN_NODES_TO_FIND)
}

#[cfg(test)]
mod tests;
