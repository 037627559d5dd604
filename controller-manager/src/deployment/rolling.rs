//! How far a rollout may go: sizes of the new and the old replica sets under the deployment's strategy. Pure arithmetic.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::sets::{self, available, replicas as size};
use crate::intstr::{Round, scaled};

/// Wanted sizes by the names of sets.
pub type Sizes = BTreeMap<String, i32>;

/// The deployment's replicas.
pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether the strategy is Recreate.
pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Most pods above the wanted number, and most below it. Both 0 would let nothing move: then one may be missing.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    if is_recreate(deployment) {
        return (0, 0);
    }
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let total = replicas(deployment);
    let value = |value: Option<&_>, round| value.map_or(0, |value| scaled(value, total, round));
    let surge = value(rolling.and_then(|rolling| rolling.max_surge.as_ref()), Round::Up);
    let unavailable = value(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), Round::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// Most pods above the wanted number.
pub fn max_surge(deployment: &Deployment) -> i32 {
    bounds(deployment).0
}

/// Most pods that may be unavailable.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    if replicas(deployment) == 0 { 0 } else { bounds(deployment).1.min(replicas(deployment)) }
}

/// The size of the new set: as many as wanted, as far as the surge allows.
pub fn new_size(deployment: &Deployment, new: i32, total: i32) -> i32 {
    let wanted = replicas(deployment);
    if is_recreate(deployment) {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - total;
    if room <= 0 { new } else { new + room.min(wanted - new) }
}

/// The size that a rolling update gives the new set now.
pub fn next_new_size(deployment: &Deployment, new: &ReplicaSet, all: &[Arc<ReplicaSet>]) -> i32 {
    let (wanted, own) = (replicas(deployment), size(new));
    if own >= wanted { wanted } else { new_size(deployment, own, all.iter().map(|set| size(set)).sum()) }
}

/// The sizes that a rolling update gives the old sets now: first those pods go that are not available anyway, then as many as leave enough available.
pub fn next_old_sizes(deployment: &Deployment, new: &ReplicaSet, old: &[Arc<ReplicaSet>]) -> Sizes {
    let mut oldest_first: Vec<&Arc<ReplicaSet>> = old.iter().filter(|set| size(set) > 0).collect();
    oldest_first.sort_by(|a, b| sets::by_age(a, b));
    let mut sizes: Sizes = oldest_first.iter().map(|set| (name(set), size(set))).collect();
    let min_available = replicas(deployment) - max_unavailable(deployment);
    let total: i32 = size(new) + sizes.values().sum::<i32>();
    let unavailable_new = size(new) - available(new);
    let most = total - min_available - unavailable_new;
    if most <= 0 {
        return sizes;
    }
    let mut cleaned = 0;
    for set in &oldest_first {
        let unhealthy = (size(set) - available(set)).max(0);
        let less = unhealthy.min(most - cleaned);
        if less > 0
            && let Some(size) = sizes.get_mut(&name(set))
        {
            *size -= less;
            cleaned += less;
        }
    }
    // A set that was just made smaller may not say so in its status yet: more than its size will not stay.
    let staying = |set: &ReplicaSet| available(set).min(size(set));
    let available_now: i32 = staying(new) + oldest_first.iter().map(|set| staying(set)).sum::<i32>();
    let mut may_go = available_now - min_available;
    for set in &oldest_first {
        if let Some(size) = sizes.get_mut(&name(set)).filter(|size| **size > 0 && may_go > 0) {
            let less = may_go.min(*size);
            *size -= less;
            may_go -= less;
        }
    }
    sizes
}

/// A set's name.
pub fn name(set: &ReplicaSet) -> String {
    set.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::testing::{deployment, set};

    #[test]
    fn bounds_are_never_both_zero() {
        for (surge, unavailable, expected) in [("25%", "25%", (1, 0)), ("0", "0", (0, 1)), ("2", "1", (2, 1))] {
            let d = deployment("web:1", 3, surge, unavailable);
            assert_eq!((max_surge(&d), max_unavailable(&d)), expected);
        }
        assert_eq!(max_unavailable(&deployment("web:1", 0, "1", "1")), 0);
    }

    #[test]
    fn the_new_set_grows_into_the_surge() {
        let d = deployment("web:2", 10, "3", "2");
        for (new, old, expected) in [(0, 10, 3), (3, 10, 3), (3, 8, 5), (5, 5, 8), (8, 0, 10), (12, 0, 10)] {
            let (new, old) = (set(&d, "new", new, 0), set(&d, "old", old, 0));
            assert_eq!(next_new_size(&d, &new, &[Arc::clone(&new), old]), expected, "{new:?}");
        }
    }

    #[test]
    fn old_sets_shrink_only_as_availability_allows() {
        let d = deployment("web:2", 10, "3", "2");
        // (new size, new available, old size, old available, old size after)
        for (new, new_available, old, old_available, expected) in [
            (0, 0, 10, 10, 8),
            (3, 0, 8, 8, 8),
            (5, 5, 8, 8, 3),
            (5, 5, 8, 3, 3),
            (10, 10, 2, 2, 0),
            (3, 0, 10, 4, 8),
            (5, 5, 7, 9, 3),
        ] {
            let sizes = next_old_sizes(&d, &set(&d, "new", new, new_available), &[set(&d, "old", old, old_available)]);
            assert_eq!(sizes["old"], expected, "{new}/{new_available} {old}/{old_available}");
        }
    }

    #[test]
    fn a_rollout_ends_and_keeps_its_bounds_on_every_path() {
        for (surge, unavailable) in [("1", "0"), ("0", "1"), ("25%", "25%"), ("100%", "0"), ("0", "100%"), ("3", "2")] {
            let d = deployment("web:2", 7, surge, unavailable);
            let (mut new, mut old) = (0, 7);
            for _ in 0..50 {
                let (new_set, old_set) = (set(&d, "new", new, new), set(&d, "old", old, old));
                let next = next_new_size(&d, &new_set, &[Arc::clone(&new_set), Arc::clone(&old_set)]);
                // Pods of the step are available only afterwards.
                let after = set(&d, "new", next, new);
                old = next_old_sizes(&d, &after, &[old_set]).get("old").copied().unwrap_or(0);
                new = next;
                assert!(new + old <= 7 + max_surge(&d), "{surge} {unavailable}: {new}+{old}");
                if (new, old) == (7, 0) {
                    break;
                }
            }
            assert_eq!((new, old), (7, 0), "{surge} {unavailable}");
        }
    }
}
