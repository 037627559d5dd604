//! Scaling a deployment while a rollout is under way or paused: its active sets share the difference in proportion to their sizes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::annotations;
use super::rolling::{self, Sizes, name};
use super::sets::{self, available, replicas as size};

/// Whether the deployment was scaled since its sets were: an active set was made for another number.
pub fn is_scaling(deployment: &Deployment, all: &[Arc<ReplicaSet>]) -> bool {
    let wanted = rolling::replicas(deployment);
    all.iter().filter(|set| size(set) > 0).any(|set| annotations::desired(set).is_some_and(|desired| desired != wanted))
}

/// The sizes of the sets after scaling. Sets that are not named keep theirs.
pub fn scaled_sizes(deployment: &Deployment, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>]) -> Sizes {
    let wanted = rolling::replicas(deployment);
    let all: Vec<&Arc<ReplicaSet>> = new.into_iter().chain(old).collect();
    let active: Vec<&Arc<ReplicaSet>> = all.iter().copied().filter(|set| size(set) > 0).collect();
    let only = match active.as_slice() {
        [] => new.or_else(|| old.iter().max_by(|a, b| sets::by_age(a, b))),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(only) = only {
        return Sizes::from([(name(only), wanted)]);
    }
    if new.is_some_and(|new| is_saturated(deployment, new)) {
        let olds = active.into_iter().filter(|set| Some(*set) != new);
        return olds.map(|set| (name(set), 0)).collect();
    }
    if rolling::is_recreate(deployment) {
        return Sizes::new();
    }
    proportional(deployment, active)
}

/// Whether the new set has all that the deployment wants, and all of it is available.
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = rolling::replicas(deployment);
    size(new) == wanted && annotations::desired(new) == Some(wanted) && available(new) == wanted
}

fn proportional(deployment: &Deployment, mut active: Vec<&Arc<ReplicaSet>>) -> Sizes {
    let wanted = rolling::replicas(deployment);
    let allowed = if wanted > 0 { wanted + rolling::max_surge(deployment) } else { 0 };
    let to_add = allowed - active.iter().map(|set| size(set)).sum::<i32>();
    // The largest get their share first; of equal ones the newer when growing, the older when shrinking.
    active.sort_by(|a, b| {
        let age = if to_add > 0 { sets::by_age(b, a) } else { sets::by_age(a, b) };
        size(b).cmp(&size(a)).then(age)
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &active {
        let share = proportion(deployment, set, to_add, added);
        added += share;
        sizes.push((name(set), size(set) + share));
    }
    if let Some((_, first)) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes.into_iter().collect()
}

/// A set's share of the difference, within what is left of it.
fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let share = fraction(deployment, set);
    let left = to_add - added;
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

/// How much a set would grow if the whole deployment grew by the same ratio.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if rolling::replicas(deployment) == 0 {
        return -size(set);
    }
    let total = rolling::replicas(deployment) + rolling::max_surge(deployment);
    let status = deployment.status.as_ref().and_then(|status| status.replicas);
    let before = annotations::max(set).filter(|&max| max > 0).or(status).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let scaled = f64::from(size(set)) * f64::from(total) / f64::from(before);
    scaled.round() as i32 - size(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::testing::{deployment, scaled_for, set};

    fn sizes(wanted: i32, before: i32, new: i32, old: i32) -> (i32, i32) {
        let d = deployment("web:2", wanted, "0", "1");
        let new = scaled_for(&set(&d, "new", new, 0), before, before);
        let old = scaled_for(&set(&d, "old", old, 0), before, before);
        assert_eq!(is_scaling(&d, &[Arc::clone(&new), Arc::clone(&old)]), wanted != before);
        let sizes = scaled_sizes(&d, Some(&new), &[old]);
        (sizes["new"], sizes["old"])
    }

    #[test]
    fn the_difference_is_shared_in_proportion() {
        assert_eq!(sizes(20, 10, 5, 5), (10, 10));
        assert_eq!(sizes(20, 10, 8, 2), (16, 4));
        assert_eq!(sizes(5, 10, 5, 5), (2, 3), "of equally old ones the first by name shrinks first");
        assert_eq!(sizes(0, 10, 7, 3), (0, 0));
        let (new, old) = sizes(11, 10, 5, 5);
        assert_eq!(new + old, 11);
    }

    #[test]
    fn one_active_set_gets_all_and_a_saturated_rollout_ends_the_old() {
        let d = deployment("web:2", 4, "1", "0");
        let old = set(&d, "old", 2, 2);
        assert_eq!(scaled_sizes(&d, None, std::slice::from_ref(&old)), Sizes::from([("old".into(), 4)]));
        let new = scaled_for(&set(&d, "new", 4, 4), 4, 5);
        assert_eq!(scaled_sizes(&d, Some(&new), &[old]), Sizes::from([("old".into(), 0)]));
    }
}
