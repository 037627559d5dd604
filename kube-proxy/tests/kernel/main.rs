//! The rules in a real kernel: packets between network namespaces, seen from both ends. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod world;

use kube_proxy::testing::{service, slice};
use kube_proxy::view::{Protocol, ServiceView};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use world::{CLIENT, NODE, POD1, POD1_V6, POD2, World, ask_stream, ask_udp};

const VIP: &str = "10.96.0.1";

fn web() -> ServiceView {
    service("web", VIP)
}

fn node_port(mut service: ServiceView) -> ServiceView {
    service.ports[0].node_port = Some(30080);
    service
}

fn world() -> World {
    let world = World::new();
    world.serve("pod1");
    world.serve("pod2");
    world
}

#[tokio::test]
async fn a_cluster_ip_leads_to_all_endpoints_from_pods_the_node_and_outside() {
    let mut w = world();
    w.set(&web(), &[POD1, POD2]).await;
    for from in ["pod1", "node", "client"] {
        let servers: BTreeSet<String> = (0..40).map(|_| w.who(from, "10.96.0.1:80")).collect();
        assert_eq!(servers, BTreeSet::from(["pod1".into(), "pod2".into()]), "from {from}");
    }
    // A pod's address is seen as it is; a stranger's is not.
    w.set(&web(), &[POD2]).await;
    assert_eq!(w.ask("pod1", "10.96.0.1:80").unwrap().peer, POD1);
    assert_ne!(w.ask("client", "10.96.0.1:80").unwrap().peer, CLIENT);
}

#[tokio::test]
async fn an_endpoint_reaches_itself_through_its_service() {
    let mut w = world();
    w.set(&web(), &[POD1]).await;
    let answer = w.ask("pod1", "10.96.0.1:80").unwrap();
    assert_eq!(answer.server, "pod1");
    assert_ne!(answer.peer, POD1, "the answer to an own address would not come back through the node");
}

#[tokio::test]
async fn node_ports_and_external_addresses_answer_from_outside() {
    let mut w = world();
    let mut service = node_port(web());
    service.external_ips = vec!["203.0.113.7".parse().unwrap()];
    w.set(&service, &[POD1, POD2]).await;
    for to in ["192.168.50.1:30080", "203.0.113.7:80"] {
        let servers: BTreeSet<String> = (0..40).map(|_| w.who("client", to)).collect();
        assert_eq!(servers, BTreeSet::from(["pod1".into(), "pod2".into()]), "{to}");
        assert_ne!(w.ask("client", to).unwrap().peer, CLIENT, "{to}");
    }
    assert_eq!(w.who("pod1", "192.168.50.1:30080").len(), 4);
    assert_eq!(w.who("node", "192.168.50.1:30080").len(), 4);
    // Only the primary address serves node ports.
    assert_eq!(w.who("pod1", "10.244.1.1:30080"), "ConnectionRefused");
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_until_that_is_gone() {
    let mut w = world();
    let service = ServiceView { affinity: Some(600), ..node_port(web()) };
    w.set(&service, &[POD1, POD2]).await;
    for (from, to) in [("pod1", "10.96.0.1:80"), ("client", "192.168.50.1:30080")] {
        let servers: BTreeSet<String> = (0..20).map(|_| w.who(from, to)).collect();
        assert_eq!(servers.len(), 1, "{from} went to {servers:?}");
    }
    let first = w.who("client", "192.168.50.1:30080");
    let (gone, left) = if first == "pod1" { (POD1, POD2) } else { (POD2, POD1) };
    w.set(&service, &[left]).await;
    let second = w.who("client", "192.168.50.1:30080");
    assert!(second != first && second.starts_with("pod"), "{second} after {first} at {gone} left");
    // It stays there when the first one comes back.
    w.set(&service, &[POD1, POD2]).await;
    let servers: BTreeSet<String> = (0..20).map(|_| w.who("client", "192.168.50.1:30080")).collect();
    assert_eq!(servers, BTreeSet::from([second]));
}

#[tokio::test]
async fn what_has_no_endpoint_is_refused_at_once() {
    let mut w = world();
    w.set(&node_port(web()), &[]).await;
    for from in ["pod1", "client", "node"] {
        assert_eq!(w.who(from, "10.96.0.1:80"), "ConnectionRefused", "from {from}");
        assert_eq!(w.who(from, "192.168.50.1:30080"), "ConnectionRefused", "from {from}");
    }
    w.set(&node_port(web()), &[POD1]).await;
    assert_eq!(w.who("client", "10.96.0.1:80"), "pod1");
    assert_eq!(w.who("client", "192.168.50.1:30080"), "pod1");
    // A port that the Service does not have.
    assert_eq!(w.who("pod1", "10.96.0.1:81"), "ConnectionRefused");
}

#[tokio::test]
async fn external_local_keeps_the_clients_address_and_drops_without_a_local_endpoint() {
    let mut w = world();
    let service = ServiceView { external_local: true, ..node_port(web()) };
    w.set(&service, &[POD1, &format!("{POD2}@n2")]).await;
    for _ in 0..10 {
        let answer = w.ask("client", "192.168.50.1:30080").unwrap();
        assert_eq!((answer.server.as_str(), answer.peer.as_str()), ("pod1", CLIENT));
    }
    let remote = format!("{POD2}@n2");
    w.set(&service, &[&remote]).await;
    assert_eq!(w.who("client", "192.168.50.1:30080"), "TimedOut");
    assert_eq!(w.who("pod1", "192.168.50.1:30080"), "pod2");
    assert_eq!(w.who("node", "192.168.50.1:30080"), "pod2");
    assert_eq!(w.who("pod1", "10.96.0.1:80"), "pod2");
}

#[tokio::test]
async fn internal_local_uses_only_endpoints_of_this_node() {
    let mut w = world();
    let service = ServiceView { internal_local: true, ..web() };
    let remote = format!("{POD2}@n2");
    w.set(&service, &[POD1, &remote]).await;
    assert!((0..10).all(|_| w.who("pod2", "10.96.0.1:80") == "pod1"));
    w.set(&service, &[&remote]).await;
    assert_eq!(w.who("pod1", "10.96.0.1:80"), "TimedOut");
}

#[tokio::test]
async fn load_balancer_addresses_admit_only_their_source_ranges() {
    let mut w = world();
    let mut service = web();
    service.load_balancer_ips = vec!["203.0.113.9".parse().unwrap()];
    service.source_ranges = vec!["192.168.50.0/24".parse().unwrap()];
    w.set(&service, &[POD1]).await;
    assert_eq!(w.who("client", "203.0.113.9:80"), "pod1");
    service.source_ranges = vec!["192.168.51.0/24".parse().unwrap()];
    w.set(&service, &[POD1]).await;
    assert_eq!(w.who("client", "203.0.113.9:80"), "TimedOut");
    assert_eq!(w.who("client", "10.96.0.1:80"), "pod1");
}

#[tokio::test]
async fn a_udp_flow_moves_when_its_endpoint_goes() {
    let mut w = world();
    let mut service = node_port(web());
    service.ports[0].protocol = Protocol::Udp;
    w.set(&service, &[POD1]).await;
    let (inside, outside) = (w.udp("pod2"), w.udp("client"));
    assert_eq!(ask_udp(&inside, "10.96.0.1:80").unwrap().server, "pod1");
    assert_eq!(ask_udp(&outside, "192.168.50.1:30080").unwrap().server, "pod1");
    w.set(&service, &[POD2]).await;
    assert_eq!(ask_udp(&inside, "10.96.0.1:80").unwrap().server, "pod2");
    assert_eq!(ask_udp(&outside, "192.168.50.1:30080").unwrap().server, "pod2");
}

#[tokio::test]
async fn ipv6_services_work_as_ipv4_ones() {
    let mut w = world();
    let mut service = node_port(service("web", "fd00:96::1"));
    service.cluster_ips.push(VIP.parse().unwrap());
    w.set(&service, &[POD1]).await;
    assert_eq!(w.who("client", "[fd00:96::1]:80"), "ConnectionRefused");
    w.set_slice(slice("web", &[POD1_V6])).await;
    assert_eq!(w.who("client", "[fd00:96::1]:80"), "pod1");
    assert_eq!(w.who("client", "[fd00:50::1]:30080"), "pod1");
    assert_eq!(w.who("client", "10.96.0.1:80"), "pod1");
    assert_ne!(w.ask("pod1", "[fd00:96::1]:80").unwrap().peer, POD1_V6);
}

#[tokio::test]
async fn established_connections_survive_every_change() {
    let mut w = world();
    w.set(&node_port(web()), &[POD1]).await;
    let mut streams =
        [w.connect("pod2", "10.96.0.1:80").unwrap(), w.connect("client", &format!("{NODE}:30080")).unwrap()];
    streams.iter_mut().for_each(|s| assert_eq!(ask_stream(s).unwrap().server, "pod1"));
    // The endpoint leaves, then the table is replaced, then the Service goes.
    w.set(&node_port(web()), &[POD2]).await;
    streams.iter_mut().for_each(|s| assert_eq!(ask_stream(s).unwrap().server, "pod1"));
    w.proxier.failed();
    w.sync().await;
    streams.iter_mut().for_each(|s| assert_eq!(ask_stream(s).unwrap().server, "pod1"));
    w.proxier.set_service(&web().name, None);
    w.sync().await;
    streams.iter_mut().for_each(|s| assert_eq!(ask_stream(s).unwrap().server, "pod1"));
    assert!(w.who("pod2", "10.96.0.1:80") != "pod1");
}

#[tokio::test]
async fn each_change_is_one_transaction_and_a_rebuild_is_one_too() {
    let mut w = world();
    w.set(&web(), &[POD1]).await;
    let mut monitor = w.command("node", "nft monitor").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map_while(Result::ok);
    knock_until_heard(&w, &mut lines);

    let before = generation_of(&w, &mut lines, "the-begin");
    w.set(&web(), &[POD1, POD2]).await;
    w.set(&ServiceView { affinity: Some(5), ..node_port(web()) }, &[POD1, POD2]).await;
    w.proxier.failed();
    w.sync().await;
    let after = generation_of(&w, &mut lines, "the-end");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    assert_eq!(after - before, 3 + 1, "three changes, and the table that marks the end");
}

/// A monitor does not say when it begins to listen: changes are made until it tells of one.
fn knock_until_heard(w: &World, lines: &mut impl Iterator<Item = String>) {
    let heard = Arc::new(AtomicBool::new(false));
    let mut knock = w.command("node", "nft add table ip knock; delete table ip knock");
    let seen = heard.clone();
    let knocking = std::thread::spawn(move || {
        while !seen.load(Ordering::Acquire) {
            assert!(knock.status().unwrap().success());
        }
    });
    assert!(lines.any(|line| line.contains("knock")));
    heard.store(true, Ordering::Release);
    knocking.join().unwrap();
}

/// Adds a table, and gives the number of the transaction that did it.
fn generation_of(w: &World, lines: &mut impl Iterator<Item = String>, table: &str) -> u64 {
    assert!(w.command("node", &format!("nft add table ip {table}")).status().unwrap().success());
    assert!(lines.any(|line| line.contains(table)));
    let generation = lines.find_map(|line| line.strip_prefix("# new generation ").map(str::to_owned)).unwrap();
    generation.split_whitespace().next().unwrap().parse().unwrap()
}
