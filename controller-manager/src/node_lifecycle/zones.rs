//! How fast nodes are given up, zone by zone: slowly, slower when much of a large zone is gone, and not at all when everything seems gone (then the
//! control plane is more likely to be cut off than the nodes to be dead). Pure, with the time as an argument.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::health::is_ready;

/// From this number of nodes that are not ready on a zone can count as unhealthy.
const PARTIAL_MINIMUM: usize = 3;

/// Rates in nodes per second, and where they apply.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// In a healthy zone.
    pub normal: f64,
    /// In a large unhealthy zone; in a small one it is 0.
    pub secondary: f64,
    /// Share of nodes not ready from which a zone is unhealthy.
    pub unhealthy: f64,
    /// Number of nodes above which a zone is large.
    pub large: usize,
}

/// The budgets of zones.
#[derive(Debug)]
pub struct Zones {
    rates: Rates,
    budgets: HashMap<String, (f64, Timestamp)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

fn zone(node: &Node) -> String {
    let label = |key: &str| node.labels().get(key).cloned().unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Zones {
    /// Full budgets: a first node may go at once.
    pub fn new(rates: Rates) -> Self {
        Self { rates, budgets: HashMap::new() }
    }

    /// Whether a node may be given up now; if so, that is counted.
    pub fn take(&mut self, node: &Node, all: &[Arc<Node>], now: Timestamp) -> bool {
        let own = zone(node);
        let rate = self.rate(&own, all);
        let (tokens, since) = self.budgets.get(&own).copied().unwrap_or((1.0, now));
        let refilled = (tokens + rate * now.duration_since(since).as_secs_f64().max(0.0)).min(1.0);
        let may = rate > 0.0 && refilled >= 1.0;
        self.budgets.insert(own, (if may { refilled - 1.0 } else { refilled }, now));
        may
    }

    fn rate(&self, own: &str, all: &[Arc<Node>]) -> f64 {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for node in all {
            let (ready, not_ready) = counts.entry(zone(node)).or_default();
            *(if is_ready(node) { ready } else { not_ready }) += 1;
        }
        if counts.values().all(|counts| self.state(*counts) == State::Full) {
            return 0.0;
        }
        let counts = counts.get(own).copied().unwrap_or_default();
        match self.state(counts) {
            State::Normal | State::Full => self.rates.normal,
            State::Partial if counts.0 + counts.1 > self.rates.large => self.rates.secondary,
            State::Partial => 0.0,
        }
    }

    fn state(&self, (ready, not_ready): (usize, usize)) -> State {
        let share = not_ready as f64 / (ready + not_ready).max(1) as f64;
        match (ready, not_ready) {
            (0, 1..) => State::Full,
            (_, PARTIAL_MINIMUM..) if share >= self.rates.unhealthy => State::Partial,
            _ => State::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::testing::node;
    use super::*;

    fn zones() -> Zones {
        Zones::new(Rates { normal: 0.1, secondary: 0.01, unhealthy: 0.55, large: 50 })
    }

    fn nodes(ready: usize, not_ready: usize) -> Vec<Arc<Node>> {
        let node = |status: &'static str| move |_| Arc::new(node("n", status, 0));
        (0..ready).map(node("True")).chain((0..not_ready).map(node("Unknown"))).collect()
    }

    #[test]
    fn nodes_are_given_up_at_the_rate_of_their_zone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let lost = node("n", "Unknown", 0);
        for (ready, not_ready, expected) in
            [(1, 1, [true, false, true]), (2, 3, [false; 3]), (0, 2, [false; 3]), (30, 40, [true, false, false])]
        {
            let (mut zones, all) = (zones(), nodes(ready, not_ready));
            let taken = [0, 9, 20].map(|second| zones.take(&lost, &all, at(second)));
            assert_eq!(taken, expected, "{ready} {not_ready}");
        }
    }
}
