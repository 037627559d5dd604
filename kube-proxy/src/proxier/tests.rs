use super::*;
use crate::plan::LocalTraffic;
use crate::testing;

fn proxier() -> Proxier {
    let policy = Policy {
        local_traffic: LocalTraffic::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()]),
        ..Policy::default()
    };
    Proxier::new(vec![Family::V4], policy, testing::node(), Vec::new())
}

fn set(proxier: &mut Proxier, name: &str, ip: &str, endpoints: &[&str]) {
    let service = testing::service(name, ip);
    proxier.set_service(&service.name.clone(), Some(service));
    proxier.set_slice(&("ns".into(), format!("{name}-1")), Some(testing::slice(name, endpoints)));
}

#[test]
fn one_more_endpoint_touches_only_its_service() {
    let mut p = proxier();
    set(&mut p, "a", "10.96.0.1", &["10.244.1.1", "10.244.1.2"]);
    set(&mut p, "b", "10.96.0.2", &["10.244.1.3", "10.244.1.4"]);
    p.plan();
    set(&mut p, "a", "10.96.0.1", &["10.244.1.1", "10.244.1.2", "10.244.1.5"]);
    let script = p.plan().transaction.render();
    assert!(!script.contains("10.96.0.2"), "{script}");
    assert!(script.contains("add element ip kube-proxy tcp-endpoints { 10.96.0.1 . 80 . 2 : 10.244.1.5 . 8080 }"));
    assert!(script.contains("add element ip kube-proxy service-ips { 10.96.0.1 . 6 . 80 : goto cluster-ip-tcp-3 }"));
}

#[test]
fn what_does_not_change_the_rules_sends_nothing() {
    let mut p = proxier();
    set(&mut p, "a", "10.96.0.1", &["10.244.1.1"]);
    p.plan();
    assert!(!p.is_dirty());
    set(&mut p, "a", "10.96.0.1", &["10.244.1.1"]);
    assert!(!p.is_dirty());
    // A slice that comes before its Service waits for it.
    assert!(!p.set_slice(&("ns".into(), "later-1".into()), Some(testing::slice("later", &["10.244.1.9"]))));
    let service = testing::service("later", "10.96.0.9");
    assert!(p.set_service(&service.name.clone(), Some(service)));
    assert!(p.plan().transaction.render().contains("10.244.1.9"));
}

#[test]
fn a_deleted_service_leaves_nothing_behind() {
    let mut p = proxier();
    set(&mut p, "a", "10.96.0.1", &["10.244.1.1"]);
    let before = p.plan().transaction.len();
    set(&mut p, "b", "10.96.0.2", &["10.244.1.2", "10.244.1.3"]);
    p.plan();
    p.set_service(&ServiceName::new("ns", "b"), None);
    p.set_slice(&("ns".into(), "b-1".into()), None);
    p.plan();
    p.failed();
    assert_eq!(p.plan().transaction.len(), before);
}

#[test]
fn after_a_failure_everything_is_sent_again() {
    let mut p = proxier();
    set(&mut p, "a", "10.96.0.1", &["10.244.1.1"]);
    let first = p.plan().transaction.render();
    p.failed();
    assert!(p.is_dirty());
    assert_eq!(p.plan().transaction.render(), first);
}
