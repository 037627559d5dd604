//! The second half of a cycle: scores, and the choice among the best.

use rand::Rng;

use super::Cycle;
use crate::framework::{CycleState, Point, PreScore};
use crate::pod::Pod;

/// The position with the highest total; among equals, one by chance.
pub fn best(cycle: &Cycle<'_>, state: &mut CycleState, pod: &Pod, positions: &[usize], rng: &mut impl Rng) -> usize {
    let totals = totals(cycle, state, pod, positions);
    let mut best = 0;
    let mut equals = 1;
    for (i, total) in totals.iter().enumerate().skip(1) {
        if *total > totals[best] {
            (best, equals) = (i, 1);
        } else if *total == totals[best] {
            equals += 1;
            if rng.random_range(0..equals) == 0 {
                best = i;
            }
        }
    }
    positions[best]
}

/// The weighted sums of all plugins' scores.
pub fn totals(cycle: &Cycle<'_>, state: &mut CycleState, pod: &Pod, positions: &[usize]) -> Vec<i64> {
    for enabled in cycle.profile.at(Point::PreScore) {
        if enabled.plugin.pre_score(state, pod, cycle.cache, positions) == PreScore::Skip {
            state.skip_score |= enabled.bit;
        }
    }
    let mut totals = vec![0; positions.len()];
    let mut scores = vec![0; positions.len()];
    for enabled in cycle.profile.at(Point::Score).iter().filter(|e| state.skip_score & e.bit == 0) {
        for (score, position) in scores.iter_mut().zip(positions) {
            *score = enabled.plugin.score(state, pod, cycle.cache.node_at(*position));
        }
        enabled.plugin.normalize(state, &mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * enabled.weight;
        }
    }
    totals
}
