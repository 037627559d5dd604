//! Services.

use serde_json::Value;

use super::endpoint_slice::ready;
use super::page::{NONE, Page, UNSET, joined, listed};
use super::{Subject, Wanted};
use crate::fields::{self, Fields};

/// Writes a service.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (service, mut page) = (subject.object, Page::default());
    let spec = service.at("spec");
    page.head(service);
    page.tags(service);
    page.field(0, "Selector", joined(spec.at("selector")));
    page.field(0, "Type", spec.text("type"));
    if spec.has("ipFamilyPolicy") {
        page.field(0, "IP Family Policy", spec.text("ipFamilyPolicy"));
    }
    page.field(0, "IP Families", listed(&spec.texts("ipFamilies"), ","));
    page.field(0, "IP", spec.text("clusterIP"));
    page.field(0, "IPs", listed(&spec.texts("clusterIPs"), ","));
    let list = |page: &mut Page, label, texts: Vec<&str>| {
        if !texts.is_empty() {
            page.field(0, label, texts.join(","));
        }
    };
    list(&mut page, "External IPs", spec.texts("externalIPs"));
    text(&mut page, spec, "Desired LoadBalancer IP", "loadBalancerIP");
    text(&mut page, spec, "External Name", "externalName");
    let ingress = service.list("status.loadBalancer.ingress");
    if !ingress.is_empty() {
        page.field(0, "LoadBalancer Ingress", ingress.iter().map(address).collect::<Vec<_>>().join(", "));
    }
    for port in spec.list("ports") {
        one_port(&mut page, port, subject.related(Wanted::EndpointSlices));
    }
    page.field(0, "Session Affinity", spec.text("sessionAffinity"));
    text(&mut page, spec, "External Traffic Policy", "externalTrafficPolicy");
    text(&mut page, spec, "Internal Traffic Policy", "internalTrafficPolicy");
    if spec.int("healthCheckNodePort") != 0 {
        page.field(0, "HealthCheck NodePort", spec.int("healthCheckNodePort"));
    }
    list(&mut page, "LoadBalancer Source Ranges", spec.texts("loadBalancerSourceRanges"));
    text(&mut page, spec, "Traffic Distribution", "trafficDistribution");
    page
}

fn text(page: &mut Page, spec: &Value, label: &str, field: &str) {
    if !spec.text(field).is_empty() {
        page.field(0, label, spec.text(field));
    }
}

fn address(ingress: &Value) -> String {
    match (ingress.text("ip"), ingress.text("ipMode")) {
        ("", _) => ingress.text("hostname").to_owned(),
        (ip, "") => ip.to_owned(),
        (ip, mode) => format!("{ip} ({mode})"),
    }
}

fn one_port(page: &mut Page, port: &Value, slices: &[Value]) {
    let (name, protocol) = (fields::or(port.text("name"), UNSET), port.text("protocol"));
    page.field(0, "Port", format_args!("{name}\t{}/{protocol}", port.int("port")));
    let target = if port.has("targetPort") { fields::plain(port.at("targetPort")) } else { "0".to_owned() };
    page.field(0, "TargetPort", format_args!("{target}/{protocol}"));
    if port.int("nodePort") != 0 {
        page.field(0, "NodePort", format_args!("{name}\t{}/{protocol}", port.int("nodePort")));
    }
    page.field(0, "Endpoints", endpoints(slices, port.text("name")));
}

/// How many addresses are shown.
const SHOWN: usize = 3;

/// The addresses behind a service's port that are ready.
pub fn endpoints(slices: &[Value], port: &str) -> String {
    if slices.is_empty() {
        return NONE.to_owned();
    }
    let mut found = Vec::new();
    for slice in slices {
        let addresses: Vec<&str> = slice
            .list("endpoints")
            .iter()
            .filter(|endpoint| ready(endpoint))
            .filter_map(|endpoint| endpoint.texts("addresses").first().copied())
            .collect();
        match slice.list("ports") {
            // Headless services may have no ports.
            [] => found.extend(addresses.iter().map(|address| (*address).to_owned())),
            ports => {
                for one in ports.iter().filter(|one| one.text("name") == port) {
                    found.extend(addresses.iter().map(|address| host_port(address, one.int("port"))));
                }
            }
        }
    }
    if found.len() <= SHOWN {
        return found.join(",");
    }
    format!("{} + {} more...", found[..SHOWN].join(","), found.len() - SHOWN)
}

fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_addresses_are_shown_and_not_too_many() {
        let endpoint =
            |address: &str, ready: Option<bool>| json!({"addresses": [address], "conditions": {"ready": ready}});
        let slice = |count: usize| {
            let mut endpoints = vec![endpoint("10.0.0.99", Some(false))];
            endpoints.extend((0..count).map(|n| endpoint(&format!("10.0.0.{n}"), None)));
            json!({"ports": [{"name": "a", "port": 80}], "endpoints": endpoints})
        };
        assert_eq!(endpoints(&[], "a"), NONE);
        assert_eq!(endpoints(&[slice(2)], "a"), "10.0.0.0:80,10.0.0.1:80");
        assert_eq!(endpoints(&[slice(5)], "a"), "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...");
        assert_eq!(endpoints(&[slice(5)], "b"), "");
    }
}
