use super::*;
use crate::testing::{NodeBuilder, PodBuilder, profiles};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::json;
use std::sync::Arc;

struct Fixture {
    cache: Cache,
    nominated: Nominated,
    start: usize,
}

impl Fixture {
    fn new(nodes: impl IntoIterator<Item = NodeBuilder>) -> Self {
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|n| drop(cache.set_node(n.build())));
        cache.refresh();
        Self { cache, nominated: Nominated::default(), start: 0 }
    }

    fn choose(&mut self, pod: &Pod) -> Result<String, String> {
        let profiles = profiles();
        let cycle = Cycle {
            profile: profiles.values().next().unwrap(),
            cache: &self.cache,
            nominated: &self.nominated,
            percentage_of_nodes_to_score: 0,
        };
        match cycle.choose(pod, &mut self.start, &mut SmallRng::seed_from_u64(1)) {
            Ok(choice) => Ok(choice.node.to_string()),
            Err(Failure::Unfit(mut diagnosis, _)) => {
                diagnosis.post_filter_message.clear();
                Err(diagnosis.message(self.cache.node_count()))
            }
            Err(other) => Err(format!("{other:?}")),
        }
    }

    fn bind(&mut self, pod: Arc<Pod>, node: &str) {
        self.cache.set_pod(pod, &crate::labels::intern(node));
    }
}

#[test]
fn the_emptier_node_is_chosen() {
    let mut f = Fixture::new([NodeBuilder::new("n1"), NodeBuilder::new("n2")]);
    f.bind(PodBuilder::new("used").cpu("2").build(), "n1");
    assert_eq!(f.choose(&PodBuilder::new("p").cpu("1").build()), Ok("n2".into()));
}

#[test]
fn every_node_says_why_not() {
    let mut f = Fixture::new([
        NodeBuilder::new("n1").taint("dedicated", "db", "NoSchedule"),
        NodeBuilder::new("n2").taint("dedicated", "db", "NoSchedule"),
        NodeBuilder::new("n3"),
    ]);
    assert_eq!(
        f.choose(&PodBuilder::new("p").cpu("5").build()),
        Err("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).".into())
    );
}

#[test]
fn a_pod_for_one_node_looks_at_no_other() {
    let mut f = Fixture::new((0..3).map(|i| NodeBuilder::new(&format!("n{i}"))));
    let daemon = |cpu: &str| {
        let field = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
        PodBuilder::new("p").spec(json!({"affinity": affinity})).cpu(cpu).build()
    };
    assert_eq!(f.choose(&daemon("1")), Ok("n1".into()));
    assert_eq!(
        f.choose(&daemon("8")),
        Err("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].".into())
    );
}

#[test]
fn a_promised_node_is_kept_for_the_pod_it_was_promised_to() {
    let mut f = Fixture::new([NodeBuilder::new("n1")]);
    let important = PodBuilder::new("important").priority(10).cpu("4").build();
    f.nominated.set(&important, Some(&crate::labels::intern("n1")));
    assert!(f.choose(&PodBuilder::new("p").cpu("1").build()).is_err());
    assert_eq!(f.choose(&PodBuilder::new("higher").priority(20).cpu("1").build()), Ok("n1".into()));
    assert_eq!(f.choose(&important), Ok("n1".into()));
}

#[test]
fn the_search_moves_on_so_that_all_nodes_get_their_turn() {
    let mut f = Fixture::new((0..1000).map(|i| NodeBuilder::new(&format!("n{i}"))));
    f.choose(&PodBuilder::new("p").cpu("1").build()).unwrap();
    assert_eq!(f.start, nodes_to_find(1000, 0));
}

#[test]
fn large_clusters_are_searched_in_part() {
    for (count, percentage, expected) in
        [(50, 0, 50), (99, 30, 99), (1000, 0, 420), (5000, 0, 500), (10_000, 0, 500), (1000, 100, 1000), (200, 5, 100)]
    {
        assert_eq!(nodes_to_find(count, percentage), expected, "{count} at {percentage} %");
    }
}

#[test]
fn a_cluster_without_nodes_is_said_so() {
    let mut f = Fixture::new([]);
    assert_eq!(f.choose(&PodBuilder::new("p").build()), Err("NoNodes".into()));
}
