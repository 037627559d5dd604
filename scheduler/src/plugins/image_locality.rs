//! ImageLocality: nodes that have the pod's images already are better, by size, unless few nodes have them.

use crate::cache::{Cache, ImageState};
use crate::framework::{CycleState, MAX_NODE_SCORE, Plugin, Point, Points, PreScore};
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::pod::Pod;

pub const NAME: &str = "ImageLocality";

const MIB: i64 = 1 << 20;
/// Below this an image is pulled so fast that its place does not matter.
const MIN_SIZE: i64 = 23 * MIB;
/// Per container, the size from which more makes no difference.
const MAX_SIZE_PER_CONTAINER: i64 = 1000 * MIB;

/// An image's size, scaled by the share of nodes that have it: otherwise one node with a rare image would draw every pod.
pub fn scaled_size(image: ImageState, nodes: usize) -> i64 {
    (image.size as f64 * image.nodes as f64 / nodes.max(1) as f64) as i64
}

pub fn priority(sum: i64, containers: usize) -> i64 {
    let max = MAX_SIZE_PER_CONTAINER * containers.max(1) as i64;
    MAX_NODE_SCORE * (sum.clamp(MIN_SIZE, max) - MIN_SIZE) / (max - MIN_SIZE)
}

/// The pod's images that some node has, with their scaled sizes.
#[derive(Clone)]
struct Wanted(Vec<(Str, i64)>);

pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreScore, Point::Score])
    }

    fn pre_score(&self, state: &mut CycleState, pod: &Pod, cache: &Cache, _: &[usize]) -> PreScore {
        let scaled = |name: &Str| Some((name.clone(), scaled_size(cache.image(name)?, cache.node_count())));
        let wanted: Vec<_> = pod.images.iter().filter_map(scaled).collect();
        // Too little even if a node had them all: every score would be 0.
        if wanted.iter().map(|(_, size)| size).sum::<i64>() <= MIN_SIZE {
            return PreScore::Skip;
        }
        state.write(Wanted(wanted));
        PreScore::Score
    }

    fn score(&self, state: &CycleState, pod: &Pod, node: &NodeInfo) -> i64 {
        let Some(Wanted(wanted)) = state.read() else { return 0 };
        let has = |name: &Str| node.node.images.iter().any(|(n, _)| crate::labels::same(n, name));
        let sum = wanted.iter().filter(|(name, _)| has(name)).map(|(_, size)| size).sum();
        priority(sum, pod.images.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NodeBuilder, PodBuilder};

    #[test]
    fn size_counts_between_two_bounds() {
        for (sum, expected) in [(0, 0), (MIN_SIZE, 0), (1000 * MIB, 100), (5000 * MIB, 100), (511 * MIB, 49)] {
            assert_eq!(priority(sum, 1), expected, "{sum}");
        }
    }

    #[test]
    fn rare_images_count_less() {
        assert_eq!(scaled_size(ImageState { size: 1000, nodes: 1 }, 4), 250);
    }

    #[test]
    fn a_node_with_the_image_is_better() {
        let mut cache = Cache::default();
        cache.set_node(NodeBuilder::new("with").image("pause:1", 900 * MIB).build());
        cache.set_node(NodeBuilder::new("without").build());
        cache.refresh();
        let (pod, mut state) = (PodBuilder::new("p").build(), CycleState::default());
        assert_eq!(ImageLocality.pre_score(&mut state, &pod, &cache, &[]), PreScore::Score);
        let score = |name: &str| ImageLocality.score(&state, &pod, cache.node(name).unwrap());
        assert!(score("with") > score("without"));
        assert_eq!(score("without"), 0);
    }
}
