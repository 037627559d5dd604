//! How many pods to make, or which to delete: pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// Most pods that one sync makes or deletes.
pub const BURST: usize = 500;

/// What to do about a set's pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// There are as many as wanted.
    Nothing,
    /// Make this many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// Compares how many pods are wanted with those that are active. `related` gives the active pods of all sets of the same owner.
pub fn plan(wanted: i32, active: &[Arc<Pod>], related: impl FnOnce() -> Vec<Arc<Pod>>, now: Timestamp) -> Plan {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    match wanted.checked_sub(active.len()) {
        Some(0) => Plan::Nothing,
        Some(missing) => Plan::Create(missing.min(BURST)),
        None => Plan::Delete(least_useful(active, &related(), (active.len() - wanted).min(BURST), now)),
    }
}

fn least_useful(active: &[Arc<Pod>], related: &[Arc<Pod>], count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if count >= active.len() {
        return active.to_vec();
    }
    let node = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let mut per_node: HashMap<String, usize> = HashMap::new();
    for pod in related {
        *per_node.entry(node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<(usize, &Arc<Pod>)> =
        active.iter().map(|pod| (per_node.get(&node(pod)).copied().unwrap_or(0), pod)).collect();
    ranked.sort_by(|(rank_a, a), (rank_b, b)| pods::deletion_order((a, *rank_a), (b, *rank_b), now));
    ranked.into_iter().take(count).map(|(_, pod)| Arc::clone(pod)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::pod;

    fn pods(names: &[(&str, &str)]) -> Vec<Arc<Pod>> {
        names.iter().map(|(name, node)| Arc::new(pod(name, node, Some(1)))).collect()
    }

    #[test]
    fn the_difference_is_made_or_deleted_within_the_burst() {
        let now = Timestamp::from_second(1000).unwrap();
        let two = pods(&[("a", "n"), ("b", "n")]);
        for (wanted, expected) in
            [(2, Plan::Nothing), (5, Plan::Create(3)), (5000, Plan::Create(BURST)), (0, Plan::Delete(two.clone()))]
        {
            assert_eq!(plan(wanted, &two, || two.clone(), now), expected, "{wanted}");
        }
    }

    #[test]
    fn pods_on_nodes_crowded_by_the_whole_deployment_go_first() {
        let now = Timestamp::from_second(1000).unwrap();
        let own = pods(&[("a", "quiet"), ("b", "crowded")]);
        let related = pods(&[("a", "quiet"), ("b", "crowded"), ("other", "crowded")]);
        assert_eq!(plan(1, &own, || related, now), Plan::Delete(vec![Arc::clone(&own[1])]));
    }
}
