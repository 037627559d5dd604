//! A profile: which plugins run for the pods of one scheduler name, at which points, in which order, with which weights.

use std::sync::Arc;

use super::{Actions, Event, Hint, Plugin, Point, SortKey, Status};
use crate::labels::Str;
use crate::pod::Pod;

/// A plugin with its place in the profile: the bit that stands for it in `CycleState`, and the weight of its score.
#[derive(Clone)]
pub struct Enabled {
    pub plugin: Arc<dyn Plugin>,
    pub bit: u64,
    pub weight: i64,
}

#[derive(Clone)]
pub struct Profile {
    pub scheduler_name: Str,
    /// How many of the nodes, in percent, are looked at before the search ends; 0: by the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
    plugins: Vec<Arc<dyn Plugin>>,
    points: [Vec<Enabled>; Point::ALL.len()],
}

/// The plugins of one point in order, with their weights.
pub type PointPlugins = Vec<(Arc<dyn Plugin>, i64)>;

impl Profile {
    /// Builds a profile from the plugins of each point, in the order of `Point::ALL`.
    pub fn new(
        scheduler_name: Str,
        percentage_of_nodes_to_score: u32,
        points: [PointPlugins; Point::ALL.len()],
    ) -> Self {
        let mut plugins: Vec<Arc<dyn Plugin>> = Vec::new();
        let points = points.map(|list| {
            let place = |(plugin, weight): (Arc<dyn Plugin>, i64)| {
                let index = plugins.iter().position(|p| p.name() == plugin.name()).unwrap_or_else(|| {
                    plugins.push(plugin.clone());
                    plugins.len() - 1
                });
                Enabled { plugin, bit: 1 << index, weight }
            };
            list.into_iter().map(place).collect()
        });
        assert!(plugins.len() <= 64, "a profile has at most 64 plugins: CycleState counts them in bits");
        Self { scheduler_name, percentage_of_nodes_to_score, plugins, points }
    }

    pub fn at(&self, point: Point) -> &[Enabled] {
        &self.points[point as usize]
    }

    pub fn sort_key(&self, pod: &Pod, queued_at: std::time::Instant) -> SortKey {
        match self.at(Point::QueueSort).first() {
            Some(sort) => sort.plugin.sort_key(pod, queued_at),
            None => (std::cmp::Reverse(0), queued_at),
        }
    }

    /// Whether the pod may enter the active queue.
    pub fn pre_enqueue(&self, pod: &Pod) -> Status {
        let answers = self.at(Point::PreEnqueue).iter().map(|e| e.plugin.pre_enqueue(pod).by(e.plugin.name()));
        answers.into_iter().find(|s| !s.is_success()).unwrap_or_else(Status::success)
    }

    /// Whether an event is worth another try for a pod that the named plugins rejected.
    pub fn is_worth_another_try(&self, pod: &Pod, rejected_by: &[&'static str], event: &Event) -> bool {
        if matches!(event, Event::Timeout) {
            return true;
        }
        let actions = event.actions();
        let rejected = self.plugins.iter().filter(|p| rejected_by.contains(&p.name()));
        let mut interested = rejected.filter(|p| p.events().intersects(actions));
        actions != Actions::NONE && interested.any(|p| p.hint(pod, event) == Hint::Queue)
    }
}
