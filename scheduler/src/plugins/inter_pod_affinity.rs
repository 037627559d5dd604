//! InterPodAffinity: pods that want to be near others, or away from them, in domains of a topology key; what those that are there want counts too.

use std::sync::Arc;

use serde::Deserialize;

use crate::affinity::{Domain, PodAffinity, Term, Totals, collect, domain};
use crate::cache::Cache;
use crate::framework::{
    Actions, CycleState, Event, Hint, MAX_NODE_SCORE, Plugin, Point, Points, PreFilter, PreScore, Status,
};
use crate::labels::{Labels, Str};
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::tally::Sums;

pub const NAME: &str = "InterPodAffinity";
const REASON_EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const REASON_AWAY: &str = "node(s) didn't match pod anti-affinity rules";
const REASON_NEAR: &str = "node(s) didn't match pod affinity rules";

/// `InterPodAffinityArgs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Args {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    /// What a pod weighs that needs to be near the incoming one.
    #[serde(default = "one")]
    hard_pod_affinity_weight: i64,
    /// Whether what those that are there prefer is left out.
    #[serde(default)]
    ignore_preferred_terms_of_existing_pods: bool,
}

fn one() -> i64 {
    1
}

impl Default for Args {
    fn default() -> Self {
        Self {
            _api_version: None,
            _kind: None,
            hard_pod_affinity_weight: one(),
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

/// All on which the sums for a pod depend.
#[derive(Clone, PartialEq)]
struct Key {
    kind: Kind,
    namespace: Str,
    namespace_labels: Option<Labels>,
    labels: Labels,
    terms: Option<Box<PodAffinity>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Pods that want to be away from the incoming one.
    Existing,
    /// Pods that the incoming one wants to be near: all of its terms mean them.
    Near,
    /// Pods that the incoming one wants to be away from.
    Away,
    /// Weights.
    Score,
}

/// Sums of one cycle, with what is imagined.
#[derive(Clone, Default)]
struct Counts {
    totals: Arc<Totals>,
    imagined: Totals,
}

impl Counts {
    fn get(&self, domain: &Domain) -> i64 {
        self.totals.get(domain) + self.imagined.get(domain)
    }

    fn is_empty(&self) -> bool {
        if self.imagined.is_empty() {
            return self.totals.is_empty();
        }
        self.totals.domains().chain(self.imagined.domains()).all(|domain| self.get(domain) == 0)
    }
}

#[derive(Clone)]
struct Filter {
    existing: Counts,
    near: Counts,
    away: Counts,
    namespace_labels: Option<Labels>,
}

#[derive(Clone)]
struct Score(Arc<Totals>);

const NO_TERMS: &[Term] = &[];

fn near(pod: &Pod) -> &[Term] {
    pod.affinity.as_ref().map_or(NO_TERMS, |affinity| &affinity.near)
}

fn away(pod: &Pod) -> &[Term] {
    pod.affinity.as_ref().map_or(NO_TERMS, |affinity| &affinity.away)
}

/// The domains that a pod on a node closes to the incoming one.
fn existing<'a>(
    other: &'a Pod,
    node: &'a NodeInfo,
    pod: &'a Pod,
    namespace: Option<&'a Labels>,
) -> impl Iterator<Item = (Domain, i64)> + 'a {
    let terms = away(other).iter().filter(move |term| term.matches(pod, namespace));
    terms.filter_map(move |term| Some((domain(term, node)?, 1)))
}

/// The domains in which a pod on a node is one that the incoming one wants to be near.
fn wanted<'a>(
    other: &'a Pod,
    node: &'a NodeInfo,
    pod: &'a Pod,
    namespace: Option<&'a Labels>,
) -> impl Iterator<Item = (Domain, i64)> + 'a {
    let terms = near(pod);
    let is_wanted = !terms.is_empty() && terms.iter().all(|term| term.matches(other, namespace));
    let domains = terms.iter().filter_map(move |term| Some((domain(term, node)?, 1)));
    domains.filter(move |_| is_wanted)
}

/// The domains in which a pod on a node is one that the incoming one wants to be away from.
fn unwanted<'a>(
    other: &'a Pod,
    node: &'a NodeInfo,
    pod: &'a Pod,
    namespace: Option<&'a Labels>,
) -> impl Iterator<Item = (Domain, i64)> + 'a {
    let terms = away(pod).iter().filter(move |term| term.matches(other, namespace));
    terms.filter_map(move |term| Some((domain(term, node)?, 1)))
}

#[derive(Default)]
pub struct InterPodAffinity {
    args: Args,
    sums: Sums<Key, Totals>,
}

impl InterPodAffinity {
    pub fn new(args: Args) -> Self {
        Self { args, sums: Sums::default() }
    }

    fn sum(
        &self,
        kind: Kind,
        pod: &Pod,
        cache: &Cache,
        of_pod: impl Fn(&Pod, &NodeInfo) -> Vec<(Domain, i64)>,
    ) -> Arc<Totals> {
        let key = Key {
            kind,
            namespace: pod.namespace.clone(),
            namespace_labels: cache.namespace(&pod.namespace).cloned(),
            // What others say depends on the pod's labels, what it says itself on its terms.
            labels: if matches!(kind, Kind::Existing | Kind::Score) { pod.labels.clone() } else { Labels::default() },
            terms: if kind == Kind::Existing { None } else { pod.affinity.clone() },
        };
        let part = |node: &NodeInfo| collect(node.pods.iter().flat_map(|other| of_pod(other, node)));
        self.sums.get(key, cache, &part)
    }

    /// The weights of domains for the incoming pod, from a pod on a node.
    fn weights(&self, pod: &Pod, other: &Pod, node: &NodeInfo, cache: &Cache) -> Vec<(Domain, i64)> {
        let own = pod.affinity.iter().flat_map(|affinity| &affinity.preferred);
        let other_namespace = cache.namespace(&other.namespace);
        let own = own.filter(|(_, term)| term.matches(other, other_namespace));
        let mut all: Vec<_> = own.filter_map(|(weight, term)| Some((domain(term, node)?, *weight))).collect();
        let Some(affinity) = &other.affinity else { return all };
        let namespace = cache.namespace(&pod.namespace);
        let mut add = |weight: i64, term: &Term| {
            if let Some(domain) = domain(term, node).filter(|_| weight != 0 && term.matches(pod, namespace)) {
                all.push((domain, weight));
            }
        };
        affinity.near.iter().for_each(|term| add(self.args.hard_pod_affinity_weight, term));
        if !self.args.ignore_preferred_terms_of_existing_pods {
            affinity.preferred.iter().for_each(|(weight, term)| add(*weight, term));
        }
        all
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn events(&self) -> Actions {
        Actions::ASSIGNED_POD_ADD
            | Actions::ASSIGNED_POD_DELETE
            | Actions::ASSIGNED_POD_LABEL
            | Actions::NODE_ADD
            | Actions::NODE_LABEL
            | Actions::POD_UPDATE
    }

    /// What namespaces' labels say is not known here: where they matter, every pod may.
    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        let concerns = |other: &Pod| {
            let mut own = near(pod).iter().chain(away(pod));
            let mut others = away(other).iter();
            own.any(|term| term.may_match(other)) || others.any(|term| term.may_match(pod))
        };
        Hint::queue_if(match event {
            Event::PodAssigned(other) | Event::AssignedPodDeleted(other) => concerns(other),
            Event::AssignedPodUpdated { old, new } => concerns(old) || concerns(new),
            _ => true,
        })
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &Pod, cache: &Cache) -> Result<PreFilter, Status> {
        if !cache.has_affinity() && near(pod).is_empty() && away(pod).is_empty() {
            return Ok(PreFilter::Skip);
        }
        let namespace = cache.namespace(&pod.namespace);
        let counts = |totals| Counts { totals, imagined: Totals::default() };
        let of = |other: &Pod| cache.namespace(&other.namespace);
        let closed = match cache.has_affinity() {
            true => self.sum(Kind::Existing, pod, cache, |other, node| existing(other, node, pod, namespace).collect()),
            false => Arc::default(),
        };
        let wanted = match near(pod).is_empty() {
            true => Arc::default(),
            false => self.sum(Kind::Near, pod, cache, |other, node| wanted(other, node, pod, of(other)).collect()),
        };
        let unwanted = match away(pod).is_empty() {
            true => Arc::default(),
            false => self.sum(Kind::Away, pod, cache, |other, node| unwanted(other, node, pod, of(other)).collect()),
        };
        if closed.is_empty() && near(pod).is_empty() && away(pod).is_empty() {
            return Ok(PreFilter::Skip);
        }
        state.write(Filter {
            existing: counts(closed),
            near: counts(wanted),
            away: counts(unwanted),
            namespace_labels: namespace.cloned(),
        });
        Ok(PreFilter::All)
    }

    fn imagine(&self, state: &mut CycleState, pod: &Pod, other: &Pod, node: &NodeInfo, cache: &Cache, added: bool) {
        let Some(filter) = state.read_mut::<Filter>() else { return };
        let sign = if added { 1 } else { -1 };
        let (namespace, others) = (cache.namespace(&pod.namespace), cache.namespace(&other.namespace));
        let change = |counts: &mut Counts, domains: Vec<(Domain, i64)>| {
            domains.iter().for_each(|(domain, amount)| counts.imagined.change(domain, sign * amount));
        };
        change(&mut filter.existing, existing(other, node, pod, namespace).collect());
        change(&mut filter.near, wanted(other, node, pod, others).collect());
        change(&mut filter.away, unwanted(other, node, pod, others).collect());
    }

    fn filter(&self, state: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        let Some(filter) = state.read::<Filter>() else { return Status::success() };
        let counted = |counts: &Counts, term: &Term| domain(term, node).is_some_and(|domain| counts.get(&domain) > 0);
        // The first of its kind has nobody to be near but its own.
        let is_first = || {
            filter.near.is_empty()
                && near(pod)
                    .iter()
                    .all(|term| domain(term, node).is_some() && term.matches(pod, filter.namespace_labels.as_ref()))
        };
        if !near(pod).iter().all(|term| counted(&filter.near, term)) && !is_first() {
            return Status::unresolvable(REASON_NEAR);
        }
        if away(pod).iter().any(|term| counted(&filter.away, term)) {
            return Status::unschedulable(REASON_AWAY);
        }
        let is_closed = |(key, value): &(Str, Str)| filter.existing.get(&(key.clone(), value.clone())) > 0;
        if !filter.existing.is_empty() && node.node.labels.iter().any(is_closed) {
            return Status::unschedulable(REASON_EXISTING);
        }
        Status::success()
    }

    fn pre_score(&self, state: &mut CycleState, pod: &Pod, cache: &Cache, _: &[usize]) -> PreScore {
        let prefers = pod.affinity.as_ref().is_some_and(|affinity| !affinity.preferred.is_empty());
        if !prefers && !cache.has_affinity() {
            return PreScore::Skip;
        }
        let totals = self.sum(Kind::Score, pod, cache, |other, node| self.weights(pod, other, node, cache));
        if totals.is_empty() {
            return PreScore::Skip;
        }
        state.write(Score(totals));
        PreScore::Score
    }

    fn score(&self, state: &CycleState, _: &Pod, node: &NodeInfo) -> i64 {
        let Some(Score(totals)) = state.read::<Score>() else { return 0 };
        node.node.labels.iter().map(|label| totals.get(&(label.0.clone(), label.1.clone()))).sum()
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64]) {
        let (lowest, highest) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = match highest - lowest {
                0 => 0,
                span => MAX_NODE_SCORE * (*score - lowest) / span,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::labels::intern;
    use crate::testing::{NodeBuilder, PodBuilder};

    const ZONE: &str = "topology.kubernetes.io/zone";

    fn term(app: &str, key: &str) -> Value {
        json!({ "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key })
    }

    fn pod(name: &str, app: &str, affinity: Value) -> Arc<Pod> {
        PodBuilder::new(name).labels(json!({ "app": app })).spec(json!({ "affinity": affinity })).build()
    }

    fn near_to(app: &str) -> Value {
        json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term(app, ZONE)] } })
    }

    fn away_from(app: &str, key: &str) -> Value {
        json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term(app, key)] } })
    }

    /// n0 and n1 in zone a, n2 in zone b, n3 in none.
    fn cache(pods: &[(Arc<Pod>, &str)]) -> Cache {
        let mut cache = Cache::new(None);
        for (name, zone) in [("n0", "a"), ("n1", "a"), ("n2", "b")] {
            cache.set_node(NodeBuilder::new(name).label(ZONE, zone).build());
        }
        cache.set_node(NodeBuilder::new("n3").build());
        for (pod, node) in pods {
            cache.set_pod(pod.clone(), &intern(node));
        }
        cache.refresh();
        cache
    }

    fn fitting(plugin: &InterPodAffinity, pod: &Pod, cache: &Cache) -> Vec<String> {
        let mut state = CycleState::default();
        let skipped = plugin.pre_filter(&mut state, pod, cache).unwrap() == PreFilter::Skip;
        let fits = |node: &&NodeInfo| skipped || plugin.filter(&state, pod, node).is_success();
        let mut names: Vec<String> = cache.nodes().filter(fits).map(|node| node.name().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn pods_go_near_and_away() {
        let plugin = InterPodAffinity::default();
        let db = || (pod("db", "db", json!({})), "n0");
        for (incoming, there, expected) in [
            (pod("p", "web", near_to("db")), vec![db()], vec!["n0", "n1"]),
            (pod("p", "web", near_to("db")), vec![], vec![]),
            (pod("p", "web", near_to("web")), vec![], vec!["n0", "n1", "n2"]),
            (pod("p", "web", away_from("db", ZONE)), vec![db()], vec!["n2", "n3"]),
            (pod("p", "web", away_from("db", "kubernetes.io/hostname")), vec![db()], vec!["n1", "n2", "n3"]),
            (pod("p", "db", json!({})), vec![(pod("x", "x", away_from("db", ZONE)), "n2")], vec!["n0", "n1", "n3"]),
            (
                pod("p", "web", json!({})),
                vec![(pod("x", "x", away_from("db", ZONE)), "n2")],
                vec!["n0", "n1", "n2", "n3"],
            ),
        ] {
            assert_eq!(fitting(&plugin, &incoming, &cache(&there)), expected, "{:?}", incoming.affinity);
        }
    }

    #[test]
    fn namespaces_are_named_or_chosen_by_their_labels() {
        let plugin = InterPodAffinity::default();
        let other = PodBuilder::new("db")
            .labels(json!({ "app": "db" }))
            .with("/metadata", json!({ "namespace": "data" }))
            .build();
        let mut cache = cache(&[(other, "n0")]);
        cache.set_namespace(intern("data"), Labels::from([("team", "storage")]));
        let incoming = |more: Value| {
            let mut term = term("db", ZONE);
            term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            pod("p", "web", json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } }))
        };
        for (more, expected) in [
            (json!({}), vec![]),
            (json!({ "namespaces": ["data"] }), vec!["n0", "n1"]),
            (json!({ "namespaceSelector": {} }), vec!["n0", "n1"]),
            (json!({ "namespaceSelector": { "matchLabels": { "team": "storage" } } }), vec!["n0", "n1"]),
            (json!({ "namespaceSelector": { "matchLabels": { "team": "web" } } }), vec![]),
        ] {
            assert_eq!(fitting(&plugin, &incoming(more.clone()), &cache), expected, "{more}");
        }
    }

    #[test]
    fn what_is_imagined_counts() {
        let plugin = InterPodAffinity::default();
        let (incoming, cache) = (pod("p", "web", away_from("db", ZONE)), cache(&[(pod("db", "db", json!({})), "n0")]));
        let mut state = CycleState::default();
        plugin.pre_filter(&mut state, &incoming, &cache).unwrap();
        let n1 = cache.node("n1").unwrap();
        assert!(!plugin.filter(&state, &incoming, n1).is_success());
        plugin.imagine(&mut state, &incoming, &pod("db", "db", json!({})), cache.node("n0").unwrap(), &cache, false);
        assert!(plugin.filter(&state, &incoming, n1).is_success());
        plugin.imagine(&mut state, &incoming, &pod("x", "x", away_from("web", ZONE)), n1, &cache, true);
        assert_eq!(plugin.filter(&state, &incoming, n1), Status::unschedulable(REASON_EXISTING));
    }

    #[test]
    fn when_the_last_of_its_kind_is_imagined_away_a_pod_is_the_first() {
        let plugin = InterPodAffinity::default();
        let (incoming, there) = (pod("p", "web", near_to("web")), pod("w", "web", json!({})));
        let cache = cache(&[(there.clone(), "n0")]);
        let mut state = CycleState::default();
        plugin.pre_filter(&mut state, &incoming, &cache).unwrap();
        let n2 = cache.node("n2").unwrap();
        assert!(!plugin.filter(&state, &incoming, n2).is_success());
        plugin.imagine(&mut state, &incoming, &there, cache.node("n0").unwrap(), &cache, false);
        assert!(plugin.filter(&state, &incoming, n2).is_success());
    }

    #[test]
    fn preferences_of_both_sides_are_weighed() {
        let prefer = |weight: i32, app: &str| json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": weight, "podAffinityTerm": term(app, ZONE) }] });
        let plugin = InterPodAffinity::default();
        let there =
            [(pod("db", "db", json!({})), "n0"), (pod("fan", "fan", json!({ "podAffinity": prefer(3, "web") })), "n2")];
        let cache = cache(&there);
        let incoming = pod("p", "web", json!({ "podAffinity": prefer(5, "db") }));
        let mut state = CycleState::default();
        assert_eq!(plugin.pre_score(&mut state, &incoming, &cache, &[]), PreScore::Score);
        let mut scores =
            ["n0", "n1", "n2", "n3"].map(|name| plugin.score(&state, &incoming, cache.node(name).unwrap()));
        assert_eq!(scores, [5, 5, 3, 0]);
        plugin.normalize(&state, &mut scores);
        assert_eq!(scores, [100, 100, 60, 0]);
        let shy = pod("p", "web", json!({ "podAntiAffinity": prefer(5, "db") }));
        plugin.pre_score(&mut state, &shy, &cache, &[]);
        assert_eq!(plugin.score(&state, &shy, cache.node("n0").unwrap()), -5);
    }
}
