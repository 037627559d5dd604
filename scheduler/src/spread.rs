//! How pods that are alike are to be spread over topology domains: the constraints of a pod, compiled, and the counts that they are held against.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1 as api;

use crate::labels::{Labels, Str, intern};
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::selector::{Requirement, Selector};
use crate::tally::Tally;

/// One constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub key: Str,
    pub selector: Selector,
    /// Whether a node that breaks it is out of the question, or only worse.
    pub is_hard: bool,
    pub min_domains: i64,
    /// Whether nodes that the pod's own selector and affinity exclude count.
    pub honors_affinity: bool,
    /// Whether nodes whose taints the pod does not tolerate count.
    pub honors_taints: bool,
}

impl SpreadConstraint {
    /// Compiles a constraint of a pod with these labels.
    pub fn new(
        constraint: &api::TopologySpreadConstraint,
        labels: Option<&std::collections::BTreeMap<String, String>>,
    ) -> Self {
        // Labels whose values tell apart what is counted, such as the hash of a revision.
        let keys = constraint.match_label_keys.iter().flatten();
        let more = keys.filter_map(|key| Some(Requirement::equals(key, labels?.get(key)?)));
        Self {
            max_skew: i64::from(constraint.max_skew),
            key: intern(&constraint.topology_key),
            selector: Selector::new(constraint.label_selector.as_ref()).and(more),
            is_hard: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// The ones of pods that have none of their own, if it is known which pods are alike: mild ones over nodes and zones.
    pub fn usual(selector: &Selector) -> Vec<Self> {
        let soft = |key: &str, max_skew| Self {
            max_skew,
            key: intern(key),
            selector: selector.clone(),
            is_hard: false,
            min_domains: 1,
            honors_affinity: true,
            honors_taints: false,
        };
        vec![soft("kubernetes.io/hostname", 3), soft("topology.kubernetes.io/zone", 5)]
    }

    /// Whether a pod is one of those that are counted.
    pub fn counts(&self, namespace: &str, pod: &Pod) -> bool {
        !pod.is_terminating && *pod.namespace == *namespace && self.selector.matches(&pod.labels)
    }

    pub fn counts_labels(&self, labels: &Labels) -> bool {
        self.selector.matches(labels)
    }
}

/// A domain's nodes and pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    pub nodes: usize,
    pub pods: i64,
}

/// By constraint, the domains by value.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    constraints: Vec<Constraint>,
}

#[derive(Clone, Debug, Default)]
struct Constraint {
    by_value: HashMap<Str, Domain>,
    /// How many domains have so many pods.
    by_count: BTreeMap<i64, usize>,
}

impl Domains {
    /// The number of pods in a domain.
    pub fn pods(&self, constraint: usize, value: &Str) -> i64 {
        self.constraints.get(constraint).and_then(|one| one.by_value.get(value)).map_or(0, |domain| domain.pods)
    }

    /// The number of domains, and of pods in the one that has fewest.
    pub fn fewest(&self, constraint: usize) -> (usize, i64) {
        let Some(one) = self.constraints.get(constraint) else { return (0, 0) };
        (one.by_value.len(), one.by_count.first_key_value().map_or(0, |(count, _)| *count))
    }

    /// All domains of a constraint.
    pub fn all(&self, constraint: usize) -> impl Iterator<Item = (&Str, &Domain)> {
        self.constraints.get(constraint).into_iter().flat_map(|one| &one.by_value)
    }
}

impl Constraint {
    fn change(&mut self, value: &Str, pods: i64, is_added: bool) {
        let domain = self.by_value.entry(value.clone()).or_default();
        if domain.nodes > 0 {
            forget(&mut self.by_count, domain.pods);
        }
        if is_added {
            *domain = Domain { nodes: domain.nodes + 1, pods: domain.pods + pods };
        } else {
            *domain = Domain { nodes: domain.nodes - 1, pods: domain.pods - pods };
        }
        if domain.nodes > 0 {
            *self.by_count.entry(domain.pods).or_default() += 1;
        } else {
            self.by_value.remove(value);
        }
    }
}

fn forget(by_count: &mut BTreeMap<i64, usize>, count: i64) {
    if let Some(domains) = by_count.get_mut(&count) {
        *domains -= 1;
        if *domains == 0 {
            by_count.remove(&count);
        }
    }
}

/// What a node adds: for each constraint its value of the key, and its pods that count.
pub type Part = Vec<Option<(Str, i64)>>;

impl Tally for Domains {
    type Part = Part;

    fn add(&mut self, part: &Part) {
        self.change(part, true);
    }

    fn remove(&mut self, part: &Part) {
        self.change(part, false);
    }
}

impl Domains {
    fn change(&mut self, part: &Part, is_added: bool) {
        self.constraints.resize_with(part.len().max(self.constraints.len()), Constraint::default);
        for (constraint, entry) in self.constraints.iter_mut().zip(part) {
            if let Some((value, pods)) = entry {
                constraint.change(value, *pods, is_added);
            }
        }
    }
}

/// What a node adds for the constraints of a pod; `None` if it lacks one of the keys and must not (`needs_all`), so that none of the
/// pod's like count there.
pub fn part(
    constraints: &[SpreadConstraint],
    namespace: &str,
    node: &NodeInfo,
    needs_all: bool,
    is_excluded: impl Fn(&SpreadConstraint) -> bool,
) -> Option<Part> {
    if needs_all && !constraints.iter().all(|one| node.node.labels.has(&one.key)) {
        return None;
    }
    let count = |one: &SpreadConstraint| node.pods.iter().filter(|pod| one.counts(namespace, pod)).count() as i64;
    let entry = |one: &SpreadConstraint| {
        let value = node.node.labels.get(&one.key).filter(|_| !is_excluded(one))?;
        Some((value.clone(), count(one)))
    };
    Some(constraints.iter().map(entry).collect())
}
