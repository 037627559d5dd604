use super::*;
use crate::view::{Protocol, ServiceName};
use std::collections::BTreeMap;

/// `address state node zone`, where the state is made of r(eady), s(erving), t(erminating).
fn endpoint(text: &str) -> Endpoint {
    let words: Vec<&str> = text.split_whitespace().collect();
    let zones = words.get(3).filter(|z| **z != "-").map(|z| vec![(*z).to_owned()]).unwrap_or_default();
    let nodes = words.get(4).map(|n| vec![(*n).to_owned()]).unwrap_or_default();
    Endpoint {
        address: words[0].parse().unwrap(),
        ready: words[1].contains('r'),
        serving: words[1].contains('s'),
        terminating: words[1].contains('t'),
        node: (words[2] != "-").then(|| words[2].to_owned()),
        zones,
        nodes,
    }
}

fn service(internal_local: bool, external_local: bool) -> ServiceView {
    ServiceView {
        name: ServiceName::new("ns", "web"),
        ports: vec![port()],
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        external_ips: vec!["192.0.2.1".parse().unwrap()],
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        affinity: None,
        internal_local,
        external_local,
        health_check_node_port: None,
    }
}

fn port() -> ServicePort {
    ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None }
}

fn run(internal_local: bool, external_local: bool, endpoints: &[&str]) -> (Vec<String>, Vec<String>, bool) {
    let slice = SliceView {
        service: ServiceName::new("ns", "web"),
        family: Family::V4,
        ports: BTreeMap::from([(("http".to_owned(), Protocol::Tcp), 8080)]),
        endpoints: endpoints.iter().map(|e| endpoint(e)).collect(),
    };
    let node = Node { name: "n1".into(), zone: Some("a".into()), ..Node::default() };
    let s = select(&service(internal_local, external_local), &port(), &[&slice], Family::V4, &node);
    let ips = |b: &[Backend]| b.iter().map(|b| b.ip.to_string()).collect();
    (ips(&s.cluster), ips(&s.local), s.any)
}

type Case<'a> = (&'a str, bool, bool, &'a [&'a str], &'a [&'a str], &'a [&'a str], bool);

#[test]
fn endpoints_are_chosen_by_readiness_place_and_hints() {
    let none: &[&str] = &[];
    // what, internal local, external local, endpoints, cluster, local, any
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("none at all", false, false, none, none, none, false),
        ("ready ones, in order", false, false, &["10.1.0.2 rs n2", "10.1.0.1 rs n1", "10.1.0.3 - n1"], &["10.1.0.1", "10.1.0.2"], none, true),
        ("terminating ones only if none is ready", false, false, &["10.1.0.1 st n1", "10.1.0.2 rs n2"], &["10.1.0.2"], none, true),
        ("all are terminating: those that serve", false, false, &["10.1.0.1 st n1", "10.1.0.2 t n2"], &["10.1.0.1"], none, true),
        ("not ready and not terminating is no endpoint", false, false, &["10.1.0.1 s n1"], none, none, false),
        ("internal Local takes this node's", true, false, &["10.1.0.1 rs n1", "10.1.0.2 rs n2"], &["10.1.0.1", "10.1.0.2"], &["10.1.0.1"], true),
        ("external Local takes this node's terminating ones before other nodes' ready ones", false, true, &["10.1.0.1 st n1", "10.1.0.2 rs n2"], &["10.1.0.2"], &["10.1.0.1"], true),
        ("Local with endpoints elsewhere has any", false, true, &["10.1.0.2 rs n2"], &["10.1.0.2"], none, true),
        ("hints for our zone", false, false, &["10.1.0.1 rs n1 a", "10.1.0.2 rs n2 b"], &["10.1.0.1"], none, true),
        ("hints count only if all have one", false, false, &["10.1.0.1 rs n1 a", "10.1.0.2 rs n2"], &["10.1.0.1", "10.1.0.2"], none, true),
        ("hints count only if one is for our zone", false, false, &["10.1.0.1 rs n1 c", "10.1.0.2 rs n2 b"], &["10.1.0.1", "10.1.0.2"], none, true),
        ("hints of endpoints that are not ready do not count", false, false, &["10.1.0.1 rs n1 a", "10.1.0.3 rs n2 b", "10.1.0.2 - n2"], &["10.1.0.1"], none, true),
        ("hints for our node go before those for our zone", false, false, &["10.1.0.1 rs n1 a n1", "10.1.0.2 rs n2 a n2"], &["10.1.0.1"], none, true),
    ];
    for (what, internal, external, endpoints, cluster, local, any) in cases {
        let (c, l, a) = run(*internal, *external, endpoints);
        assert_eq!((c, l, a), (strings(cluster), strings(local), *any), "{what}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_ready_wins() {
    let slice = |state: &str| SliceView {
        service: ServiceName::new("ns", "web"),
        family: Family::V4,
        ports: BTreeMap::from([(("http".to_owned(), Protocol::Tcp), 8080)]),
        endpoints: vec![endpoint(&format!("10.1.0.1 {state} n1"))],
    };
    let (old, new) = (slice("-"), slice("rs"));
    let node = Node { name: "n1".into(), ..Node::default() };
    let selection = select(&service(false, false), &port(), &[&old, &new], Family::V4, &node);
    assert_eq!(selection.cluster.len(), 1);
}
