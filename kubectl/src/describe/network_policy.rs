//! Network policies.

use serde_json::Value;

use super::Subject;
use super::page::{Page, listed};
use crate::fields::{self, Fields};

/// Ingress or egress.
struct Direction {
    kind: &'static str,
    peers: &'static str,
    to: &'static str,
    any: &'static str,
}

const INGRESS: Direction =
    Direction { kind: "ingress", peers: "from", to: "From:", any: "From: <any> (traffic not restricted by source)" };
const EGRESS: Direction =
    Direction { kind: "egress", peers: "to", to: "To:", any: "To: <any> (traffic not restricted by destination)" };

/// Writes a network policy.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (policy, mut page) = (subject.object, Page::default());
    let spec = policy.at("spec");
    page.head(policy);
    page.field(0, "Created on", created(policy));
    page.tags(policy);
    page.line(0, "Spec:");
    let selector = match super::bare_selector(spec.at("podSelector")) {
        empty if empty.is_empty() => "<none> (Allowing the specific traffic to all pods in this namespace)".to_owned(),
        selector => selector,
    };
    page.line(1, format_args!("PodSelector:     {selector}"));
    for (name, direction) in [("Ingress", INGRESS), ("Egress", EGRESS)] {
        let kind = direction.kind;
        if spec.texts("policyTypes").contains(&name) {
            page.line(1, format_args!("Allowing {kind} traffic:"));
            rules(&mut page, spec.list(kind), &direction);
        } else {
            page.line(1, format_args!("Not affecting {kind} traffic"));
        }
    }
    page.line(1, format_args!("Policy Types: {}", listed(&spec.texts("policyTypes"), ", ")));
    page
}

/// The time as Go prints it: `2026-01-02 03:04:05 +0000 UTC`.
fn created(policy: &Value) -> String {
    match policy.text("metadata.creationTimestamp").parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => "0001-01-01 00:00:00 +0000 UTC".to_owned(),
    }
}

fn rules(page: &mut Page, rules: &[Value], direction: &Direction) {
    if rules.is_empty() {
        let none = format!("<none> (Selected pods are isolated for {} connectivity)", direction.kind);
        return page.line(2, none);
    }
    for (index, rule) in rules.iter().enumerate() {
        if index > 0 {
            page.line(2, "----------");
        }
        if rule.list("ports").is_empty() {
            page.line(2, "To Port: <any> (traffic allowed to all ports)");
        }
        rule.list("ports").iter().for_each(|port| one_port(page, port));
        if rule.list(direction.peers).is_empty() {
            page.line(2, direction.any);
        }
        for peer in rule.list(direction.peers) {
            page.line(2, direction.to);
            one_peer(page, peer);
        }
    }
}

fn one_port(page: &mut Page, port: &Value) {
    let number = if port.has("port") { fields::plain(port.at("port")) } else { "<nil>".to_owned() };
    let protocol = fields::or(port.text("protocol"), "TCP");
    match port.at("endPort").as_i64() {
        None => page.line(2, format_args!("To Port: {number}/{protocol}")),
        Some(end) => page.line(2, format_args!("To Port Range: {number}-{end}/{protocol}")),
    }
}

fn one_peer(page: &mut Page, peer: &Value) {
    for (label, field) in [("NamespaceSelector", "namespaceSelector"), ("PodSelector", "podSelector")] {
        if peer.has(field) {
            page.line(3, format_args!("{label}: {}", super::selector(peer.at(field))));
        }
    }
    if peer.has("ipBlock") && !peer.has("podSelector") && !peer.has("namespaceSelector") {
        page.line(3, "IPBlock:");
        page.line(4, format_args!("CIDR: {}", peer.text("ipBlock.cidr")));
        page.line(4, format_args!("Except: {}", peer.texts("ipBlock.except").join(", ")));
    }
}
