//! NodeAffinity: node selectors, required and preferred node affinity, and the affinity that a profile adds to every pod.

use serde::Deserialize;

use crate::cache::Cache;
use crate::framework::{
    Actions, CycleState, Event, Hint, Plugin, Point, Points, PreFilter, PreScore, Status, normalize_by_largest,
};
use crate::labels::Str;
use crate::node::{Node, NodeInfo};
use crate::pod::{Pod, preferences};
use crate::selector::Term;

pub const NAME: &str = "NodeAffinity";
const REASON: &str = "node(s) didn't match Pod's node affinity/selector";
const REASON_ADDED: &str = "node(s) didn't match scheduler-enforced node affinity";
const REASON_CONFLICT: &str = "pod affinity terms conflict";

/// `NodeAffinityArgs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Args {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    #[serde(default)]
    added_affinity: Option<k8s_openapi::api::core::v1::NodeAffinity>,
}

/// Whether the pod's own selector and required affinity allow the node.
pub fn fits(pod: &Pod, node: &Node) -> Status {
    let selected = pod.node_selector.iter().all(|r| r.matches(&node.labels));
    let required = pod.required_nodes.as_ref().is_none_or(|terms| any_matches(terms, node));
    if selected && required { Status::success() } else { Status::unresolvable(REASON) }
}

fn any_matches(terms: &[Term], node: &Node) -> bool {
    terms.iter().any(|t| t.matches(&node.name, &node.labels))
}

/// The weights of the preferences that the node meets, added up.
pub fn preference(preferred: &[(i64, Term)], node: &Node) -> i64 {
    preferred.iter().filter(|(_, term)| term.matches(&node.name, &node.labels)).map(|(weight, _)| weight).sum()
}

/// The nodes that the required affinity names, if every term of it names nodes. The terms are alternatives.
pub fn named_nodes(required: Option<&[Term]>) -> Option<Vec<Str>> {
    let lists: Option<Vec<Vec<Str>>> = required?.iter().map(Term::names).collect();
    let mut names: Vec<Str> = lists?.into_iter().flatten().collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[derive(Default)]
pub struct NodeAffinity {
    added_required: Option<Box<[Term]>>,
    added_preferred: Box<[(i64, Term)]>,
}

impl NodeAffinity {
    pub fn new(args: &Args) -> Self {
        let Some(added) = &args.added_affinity else { return Self::default() };
        let required = added.required_during_scheduling_ignored_during_execution.as_ref();
        let preferred = added.preferred_during_scheduling_ignored_during_execution.as_deref();
        Self {
            added_required: required.map(|s| s.node_selector_terms.iter().map(Term::new).collect()),
            added_preferred: preferences(preferred.unwrap_or_default()),
        }
    }

    fn allows(&self, pod: &Pod, node: &Node) -> Status {
        if self.added_required.as_ref().is_some_and(|terms| !any_matches(terms, node)) {
            return Status::unresolvable(REASON_ADDED);
        }
        fits(pod, node)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn events(&self) -> Actions {
        Actions::NODE_ADD | Actions::NODE_LABEL
    }

    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        Hint::queue_if(match event {
            Event::NodeAdded(node) => self.allows(pod, node).is_success(),
            Event::NodeUpdated { old, new } => {
                self.allows(pod, new).is_success() && !self.allows(pod, old).is_success()
            }
            _ => false,
        })
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &Pod, _: &Cache) -> Result<PreFilter, Status> {
        if self.added_required.is_none() && pod.required_nodes.is_none() && pod.node_selector.is_empty() {
            return Ok(PreFilter::Skip);
        }
        match named_nodes(pod.required_nodes.as_deref()) {
            Some(names) if names.is_empty() => Err(Status::unresolvable(REASON_CONFLICT)),
            Some(names) => Ok(PreFilter::Only(names)),
            None => Ok(PreFilter::All),
        }
    }

    fn filter(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        self.allows(pod, &node.node)
    }

    fn pre_score(&self, _: &mut CycleState, pod: &Pod, _: &Cache, _: &[usize]) -> PreScore {
        if pod.preferred_nodes.is_empty() && self.added_preferred.is_empty() { PreScore::Skip } else { PreScore::Score }
    }

    fn score(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> i64 {
        preference(&pod.preferred_nodes, &node.node) + preference(&self.added_preferred, &node.node)
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64]) {
        normalize_by_largest(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::intern;
    use crate::testing::{NodeBuilder, PodBuilder};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn with_affinity(affinity: Value) -> Arc<Pod> {
        PodBuilder::new("p").spec(json!({"affinity": {"nodeAffinity": affinity}})).build()
    }

    fn required(terms: Value) -> Arc<Pod> {
        with_affinity(json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}))
    }

    #[test]
    fn selector_and_required_affinity_must_both_match() {
        let node = NodeBuilder::new("n1").label("zone", "a").label("disk", "ssd").build();
        let zone = |value: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]});
        for (pod, fit) in [
            (PodBuilder::new("p").build(), true),
            (PodBuilder::new("p").spec(json!({"nodeSelector": {"disk": "ssd"}})).build(), true),
            (PodBuilder::new("p").spec(json!({"nodeSelector": {"disk": "ssd", "zone": "b"}})).build(), false),
            (required(json!([zone("a")])), true),
            (required(json!([zone("b")])), false),
            (required(json!([zone("b"), zone("a")])), true),
            (required(json!([])), false),
            (required(json!([{}])), false),
        ] {
            assert_eq!(fits(&pod, &node).is_success(), fit, "{:?} {:?}", pod.node_selector, pod.required_nodes);
        }
    }

    #[test]
    fn terms_on_the_name_limit_the_search() {
        let name = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        let plugin = NodeAffinity::default();
        let ask = |pod: &Pod| plugin.pre_filter(&mut CycleState::default(), pod, &Cache::default());
        assert_eq!(ask(&PodBuilder::new("p").build()), Ok(PreFilter::Skip));
        assert_eq!(
            ask(&required(json!([name("n2"), name("n1")]))),
            Ok(PreFilter::Only(vec![intern("n1"), intern("n2")]))
        );
        let open = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
        assert_eq!(ask(&required(json!([name("n1"), open]))), Ok(PreFilter::All), "another term allows other nodes");
        let both = json!([{"matchFields": [name("n1")["matchFields"][0], name("n2")["matchFields"][0]]}]);
        assert_eq!(ask(&required(both)), Err(Status::unresolvable(REASON_CONFLICT)));
    }

    #[test]
    fn preferences_add_up() {
        let prefer = |weight: i32, key: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "Exists"}]}});
        let pod = with_affinity(
            json!({"preferredDuringSchedulingIgnoredDuringExecution": [prefer(5, "zone"), prefer(3, "disk"), prefer(9, "gpu")]}),
        );
        let node = NodeBuilder::new("n1").label("zone", "a").label("disk", "ssd").build();
        assert_eq!(preference(&pod.preferred_nodes, &node), 8);
    }

    #[test]
    fn an_added_affinity_binds_every_pod() {
        let args = json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]}}});
        let plugin = NodeAffinity::new(&serde_json::from_value(args).unwrap());
        let node = NodeBuilder::new("n1").build();
        assert_eq!(plugin.allows(&PodBuilder::new("p").build(), &node), Status::unresolvable(REASON_ADDED));
    }
}
