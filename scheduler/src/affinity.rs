//! Which pods a pod wants to be near, and away from: its terms, compiled, and sums over topology domains.

use std::collections::HashMap;

use k8s_openapi::api::core::v1 as api;

use crate::labels::{Labels, Str, intern};
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::selector::Selector;
use crate::tally::Tally;

/// One term: pods of some namespaces, chosen by their labels, in the same domain of a topology key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    namespaces: Box<[Str]>,
    namespace_selector: Selector,
    selector: Selector,
    pub key: Str,
}

impl Term {
    fn new(term: &api::PodAffinityTerm, namespace: &str) -> Self {
        let named: Box<[Str]> = term.namespaces.iter().flatten().map(|name| intern(name)).collect();
        // Without any word on namespaces the pod's own is meant.
        let own = named.is_empty() && term.namespace_selector.is_none();
        Self {
            namespaces: if own { [intern(namespace)].into() } else { named },
            namespace_selector: Selector::new(term.namespace_selector.as_ref()),
            selector: Selector::new(term.label_selector.as_ref()),
            key: intern(&term.topology_key),
        }
    }

    /// Whether it means a pod with these labels, of a namespace with those.
    pub fn matches(&self, pod: &Pod, namespace: Option<&Labels>) -> bool {
        let in_namespace = self.namespaces.contains(&pod.namespace)
            || self.namespace_selector.is_everything()
            || namespace.is_some_and(|labels| self.namespace_selector.matches(labels));
        in_namespace && self.selector.matches(&pod.labels)
    }

    /// Whether it could mean a pod, as far as that shows without its namespace's labels.
    pub fn may_match(&self, pod: &Pod) -> bool {
        self.selector.matches(&pod.labels)
    }
}

/// The terms of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAffinity {
    pub near: Box<[Term]>,
    pub away: Box<[Term]>,
    /// With weights: positive ones to be near, negative ones to be away.
    pub preferred: Box<[(i64, Term)]>,
}

impl PodAffinity {
    /// The terms of a pod in a namespace; `None` if it has none.
    pub fn new(spec: &api::PodSpec, namespace: &str) -> Option<Self> {
        let affinity = spec.affinity.as_ref()?;
        let (near, away) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let required = |terms: Option<&Vec<api::PodAffinityTerm>>| -> Box<[Term]> {
            terms.into_iter().flatten().map(|term| Term::new(term, namespace)).collect()
        };
        let preferred = |terms: Option<&Vec<api::WeightedPodAffinityTerm>>, sign: i64| -> Vec<(i64, Term)> {
            let terms = terms.into_iter().flatten();
            terms.map(|one| (sign * i64::from(one.weight), Term::new(&one.pod_affinity_term, namespace))).collect()
        };
        let mut weighted =
            preferred(near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()), 1);
        weighted
            .extend(preferred(away.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()), -1));
        let terms = Self {
            near: required(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            away: required(away.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            preferred: weighted.into(),
        };
        (terms != Self::default()).then_some(terms)
    }
}

/// A topology key and a value of it.
pub type Domain = (Str, Str);

/// Sums by domain. Domains with a sum of zero are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(HashMap<Domain, i64>);

impl Totals {
    pub fn get(&self, domain: &Domain) -> i64 {
        self.0.get(domain).copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The domains whose sum is not zero.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.0.keys()
    }

    pub fn change(&mut self, domain: &Domain, amount: i64) {
        let total = self.0.entry(domain.clone()).or_default();
        *total += amount;
        if *total == 0 {
            self.0.remove(domain);
        }
    }
}

impl Tally for Totals {
    type Part = Vec<(Domain, i64)>;

    fn add(&mut self, part: &Self::Part) {
        part.iter().for_each(|(domain, amount)| self.change(domain, *amount));
    }

    fn remove(&mut self, part: &Self::Part) {
        part.iter().for_each(|(domain, amount)| self.change(domain, -amount));
    }
}

/// The domain of a term that a node is in.
pub fn domain(term: &Term, node: &NodeInfo) -> Option<Domain> {
    Some((term.key.clone(), node.node.labels.get(&term.key)?.clone()))
}

/// Collects what a node adds; nothing is `None`.
pub fn collect(amounts: impl Iterator<Item = (Domain, i64)>) -> Option<Vec<(Domain, i64)>> {
    let mut part: Vec<(Domain, i64)> = Vec::new();
    for (domain, amount) in amounts {
        match part.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, total)) => *total += amount,
            None => part.push((domain, amount)),
        }
    }
    (!part.is_empty()).then_some(part)
}
