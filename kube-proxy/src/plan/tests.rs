use super::*;
use crate::ruleset::{Key, Objects, Value};
use crate::testing;
use crate::view::{Family, Protocol, ServiceView};

fn policy() -> Policy {
    Policy {
        local_traffic: LocalTraffic::ClusterCidr(vec![
            "10.244.0.0/16".parse().unwrap(),
            "fd00:244::/56".parse().unwrap(),
        ]),
        ..Policy::default()
    }
}

fn plan(service_view: &ServiceView, endpoints: &[&str]) -> ServicePlan {
    let slice = testing::slice("web", endpoints);
    service(service_view, &[&slice], &policy(), &testing::node(), &[Family::V4, Family::V6])
}

/// Objects as lines, `set: key = value` and `chain: rule; rule`, sorted.
fn lines(objects: &Objects) -> Vec<String> {
    let mut lines: Vec<String> = objects
        .iter()
        .map(|(key, value)| match (key, value) {
            (Key::Chain(_, name), Value::Chain { rules, .. }) => format!("{name}: {}", rules.join("; ")),
            (Key::Set(_, name), Value::Set { definition, .. }) => format!("{name}: {definition}"),
            (Key::Element(_, set, key), Value::Element(value)) => format!("{set}: {key} = {value}"),
            other => panic!("key and value do not belong together: {other:?}"),
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

fn web() -> ServiceView {
    testing::service("web", "10.96.0.1")
}

#[test]
fn a_cluster_ip_uses_the_shared_chain_of_its_number_of_endpoints() {
    assert_eq!(
        lines(&plan(&web(), &["10.244.1.1", "10.244.2.2@n2"]).objects),
        [
            "cluster-ip-tcp-2: ip saddr != { 10.244.0.0/16 } jump mark-for-masquerade; \
             dnat ip to ip daddr . tcp dport . numgen random mod 2 map @tcp-endpoints; \
             dnat ip to ip daddr . tcp dport . numgen random mod 1 map @tcp-endpoints",
            "cluster-ips: 10.96.0.1 = ",
            "hairpin-connections: 10.244.1.1 . 10.244.1.1 = ",
            "service-ips: 10.96.0.1 . 6 . 80 = goto cluster-ip-tcp-2",
            "tcp-endpoints: 10.96.0.1 . 80 . 0 = 10.244.1.1 . 8080",
            "tcp-endpoints: 10.96.0.1 . 80 . 1 = 10.244.2.2 . 8080",
        ]
    );
}

#[test]
fn a_service_without_endpoints_is_refused() {
    assert_eq!(
        lines(&plan(&web(), &[]).objects),
        ["cluster-ips: 10.96.0.1 = ", "no-endpoint-services: 10.96.0.1 . 6 . 80 = goto reject-chain"]
    );
}

#[test]
fn internal_local_without_an_endpoint_here_is_dropped() {
    let service = ServiceView { internal_local: true, ..web() };
    assert_eq!(
        lines(&plan(&service, &["10.244.2.2@n2"]).objects),
        ["cluster-ips: 10.96.0.1 = ", "no-endpoint-services: 10.96.0.1 . 6 . 80 = drop"]
    );
}

#[test]
fn node_ports_and_external_addresses_are_masqueraded() {
    let mut service = web();
    service.ports[0].node_port = Some(30080);
    service.external_ips = vec!["192.0.2.7".parse().unwrap()];
    let lines = lines(&plan(&service, &["10.244.2.2@n2"]).objects);
    for line in [
        "external-tcp-1: jump mark-for-masquerade; dnat ip to ip daddr . tcp dport . numgen random mod 1 map @tcp-endpoints",
        "nodeport-tcp-1: jump mark-for-masquerade; dnat ip to tcp dport . numgen random mod 1 map @tcp-nodeport-endpoints",
        "service-ips: 192.0.2.7 . 6 . 80 = goto external-tcp-1",
        "service-nodeports: 6 . 30080 = goto nodeport-tcp-1",
        "tcp-nodeport-endpoints: 30080 . 0 = 10.244.2.2 . 8080",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:#?}");
    }
}

#[test]
fn external_local_serves_outsiders_from_here_and_the_cluster_from_everywhere() {
    let mut service = ServiceView { external_local: true, ..web() };
    service.ports[0].node_port = Some(30080);
    let plan = plan(&service, &["10.244.1.1", "10.244.2.2@n2"]);
    let lines = lines(&plan.objects);
    let external = lines.iter().find(|l| l.starts_with("external-")).expect("a chain of its own");
    let all = lines.iter().find(|l| l.starts_with("all-")).expect("a chain for the cluster").split(':').next().unwrap();
    assert_eq!(
        external.split_once(": ").unwrap().1,
        format!(
            "ip saddr == {{ 10.244.0.0/16 }} goto {all}; fib saddr type local jump mark-for-masquerade; \
             fib saddr type local goto {all}; \
             meta l4proto 6 dnat ip to numgen random mod 1 map {{ 0 : 10.244.1.1 . 8080 }}"
        )
    );
    assert_eq!(plan.local_endpoints, 1);
}

#[test]
fn external_local_without_an_endpoint_here_is_dropped_for_outsiders_only() {
    let mut service = ServiceView { external_local: true, ..web() };
    service.ports[0].node_port = Some(30080);
    let lines = lines(&plan(&service, &["10.244.2.2@n2"]).objects);
    assert!(lines.contains(&"no-endpoint-nodeports: 6 . 30080 = drop".to_owned()), "{lines:#?}");
    assert!(lines.iter().any(|l| l.starts_with("service-nodeports: 6 . 30080 = goto external-")), "{lines:#?}");
}

#[test]
fn affinity_gives_each_endpoint_a_chain_and_a_set_of_clients() {
    let service = ServiceView { affinity: Some(60), ..web() };
    let lines = lines(&plan(&service, &["10.244.1.1", "10.244.1.2"]).objects);
    let sets: Vec<&String> = lines.iter().filter(|l| l.starts_with("affinity-60s-")).collect();
    assert_eq!(sets.len(), 2, "{lines:#?}");
    assert!(sets[0].ends_with(": type ipv4_addr ; flags dynamic, timeout ; timeout 60s"));
    let endpoint = lines.iter().find(|l| l.starts_with("endpoint-")).unwrap();
    assert!(endpoint.contains("{ ip saddr }; meta l4proto 6 dnat ip to 10.244.1."), "{endpoint}");
    let service = lines.iter().find(|l| l.starts_with("service-") && l.contains("numgen")).unwrap();
    assert!(service.contains("numgen random mod 2 vmap { 0 : goto endpoint-"), "{service}");
}

#[test]
fn load_balancer_sources_are_merged_and_others_dropped() {
    let mut service = web();
    service.load_balancer_ips = vec!["203.0.113.9".parse().unwrap()];
    service.source_ranges = ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/17", "192.168.128.0/17"]
        .iter()
        .map(|r| r.parse().unwrap())
        .collect();
    let lines = lines(&plan(&service, &["10.244.1.1"]).objects);
    let chain = lines.iter().find(|l| l.starts_with("firewall-") && l.contains("saddr")).unwrap();
    assert!(chain.ends_with(": ip saddr != { 10.0.0.0/8, 192.168.0.0/16 } drop"), "{chain}");
    assert!(lines.iter().any(|l| l.starts_with("firewall-ips: 203.0.113.9 . 6 . 80 = goto firewall-")));
}

#[test]
fn udp_ways_in_are_reported_for_connection_tracking() {
    let mut service = web();
    service.ports[0].protocol = Protocol::Udp;
    service.ports[0].node_port = Some(30053);
    let plan = plan(&service, &["10.244.1.1"]);
    let fronts: Vec<UdpFront> = plan.udp.iter().map(|f| f.front).collect();
    assert_eq!(
        fronts,
        [
            UdpFront::Ip("10.96.0.1".parse().unwrap(), 80),
            UdpFront::NodePort(Family::V4, 30053),
            UdpFront::NodePort(Family::V6, 30053)
        ]
    );
    assert!(plan.udp[2].backends.is_empty());
}

#[test]
fn names_stay_within_what_nft_allows() {
    let mut service = ServiceView { affinity: Some(1), ..web() };
    service.name = crate::view::ServiceName::new("n".repeat(63), "s".repeat(63));
    service.ports[0].name = "p".repeat(15);
    let slice = crate::view::SliceView {
        service: service.name.clone(),
        ports: [(("p".repeat(15), Protocol::Tcp), 8080)].into(),
        ..testing::slice("web", &["fd00:1111:2222:3333:4444:5555:6666:7777"])
    };
    service.cluster_ips = vec!["fd00::1".parse().unwrap()];
    let plan = super::service(&service, &[&slice], &policy(), &testing::node(), &[Family::V6]);
    for (key, _) in &plan.objects {
        if let Key::Chain(_, name) | Key::Set(_, name) = key {
            assert!(name.len() < 128, "{name} has {} characters", name.len());
        }
    }
}

#[test]
fn node_port_addresses_are_chosen_as_configured() {
    let node = crate::view::Node {
        ips: vec!["192.168.0.1".parse().unwrap(), "192.168.0.2".parse().unwrap()],
        ..testing::node()
    };
    let interfaces = ["10.9.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let within = |ranges: &[&str]| {
        let ranges = ranges.iter().map(|r| r.parse().unwrap()).collect();
        Policy { node_port_addresses: NodePortAddresses::Within(ranges), ..policy() }
    };
    let ips = |p: &Policy| -> Vec<String> {
        p.node_port_ips(Family::V4, &node, &interfaces).iter().map(ToString::to_string).collect()
    };
    assert_eq!(ips(&policy()), ["192.168.0.1"]);
    assert_eq!(ips(&within(&["10.9.0.0/16"])), ["10.9.0.1"]);
    assert_eq!(ips(&within(&["127.0.0.0/8"])), [""; 0]);
    assert_eq!(policy().to_node_port(Family::V4), "ip daddr @nodeport-ips");
    assert_eq!(within(&["0.0.0.0/0"]).to_node_port(Family::V4), "ip daddr != 127.0.0.0/8 fib daddr type local");
}
