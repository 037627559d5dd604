//! Services. Addresses and node ports are allocated elsewhere; here stand the rules they must keep.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{each, object, set, set_empty};
use crate::node::Node;
use crate::rules::{ip, meta, probe};
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "",
    resource: "services",
    name: names::dns1123_label,
    default,
    create: normalize_cluster_ips,
    update,
    validate,
    transition,
    fields,
    ..Kind::PLAIN
};

const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_SECONDS_MAX: i64 = 86_400;

fn default(service: &mut Value) {
    let spec = object(service, "spec");
    set_empty(spec, "sessionAffinity", "None");
    match spec["sessionAffinity"].as_str() {
        Some("None") => {
            spec.as_object_mut().map(|s| s.remove("sessionAffinityConfig"));
        }
        Some("ClientIP") => {
            let client = object(object(spec, "sessionAffinityConfig"), "clientIP");
            set(client, "timeoutSeconds", AFFINITY_SECONDS);
        }
        _ => {}
    }
    set_empty(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        set_empty(port, "protocol", "TCP");
        let number = port["port"].as_i64().unwrap_or(0);
        set_empty(port, "targetPort", number);
    });
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// `clusterIP` is the first of `clusterIPs`.
fn normalize_cluster_ips(service: &mut Value) {
    let spec = &mut service["spec"];
    if let Some(first) = spec["clusterIP"].as_str().filter(|s| !s.is_empty()).map(str::to_owned)
        && spec["clusterIPs"].as_array().is_none_or(Vec::is_empty)
    {
        spec["clusterIPs"] = json!([first]);
    }
}

fn needs_cluster_ip(spec: &Value) -> bool {
    matches!(spec["type"].as_str(), Some("ClusterIP" | "NodePort" | "LoadBalancer"))
}

fn needs_node_ports(spec: &Value) -> bool {
    match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    }
}

/// What was allocated stays, where the update does not say otherwise; what the new type has no use for goes.
fn update(service: &mut Value, old: &Value) {
    let old_spec = &old["spec"];
    let spec = &mut service["spec"];
    if needs_cluster_ip(spec) && needs_cluster_ip(old_spec) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if blank(&spec[field]) && !blank(&old_spec[field]) && !(field == "clusterIPs" && differs(spec, old_spec)) {
                spec[field] = old_spec[field].clone();
            }
        }
    }
    if needs_node_ports(spec) && needs_node_ports(old_spec) {
        keep_node_ports(spec, old_spec);
    }
    if needs_health_check(spec) && needs_health_check(old_spec) {
        let port = old_spec["healthCheckNodePort"].clone();
        if blank(&spec["healthCheckNodePort"]) && !blank(&port) {
            spec["healthCheckNodePort"] = port;
        }
    }
    drop_type_dependent(spec, old_spec);
    normalize_cluster_ips(service);
}

fn differs(spec: &Value, old: &Value) -> bool {
    !blank(&spec["clusterIP"]) && spec["clusterIP"] != old["clusterIP"]
}

fn blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Number(n) => n.as_i64() == Some(0),
        _ => false,
    }
}

fn keep_node_ports(spec: &mut Value, old: &Value) {
    let known = old["ports"].as_array().cloned().unwrap_or_default();
    let used: Vec<Value> =
        spec["ports"].as_array().into_iter().flatten().map(|p| p["nodePort"].clone()).filter(|p| !blank(p)).collect();
    each(spec, "ports", |port| {
        if blank(&port["nodePort"])
            && let Some(same) = known.iter().find(|p| p["port"] == port["port"] && p["protocol"] == port["protocol"])
            && !blank(&same["nodePort"])
            && !used.contains(&same["nodePort"])
        {
            port["nodePort"] = same["nodePort"].clone();
        }
    });
}

fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// A change of type takes the fields along that only the old type had, if they were left as they were.
fn drop_type_dependent(spec: &mut Value, old: &Value) {
    let now = spec["type"].as_str().unwrap_or("").to_owned();
    let before = old["type"].as_str().unwrap_or("");
    let exposed = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if now == "ExternalName" && before != "ExternalName" {
        remove_unchanged(
            spec,
            old,
            &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"],
        );
    }
    if !exposed(&now) && exposed(before) {
        if blank(&spec["externalIPs"]) {
            remove_unchanged(spec, old, &["externalTrafficPolicy"]);
        }
        let ports = old["ports"].as_array().cloned().unwrap_or_default();
        each(spec, "ports", |port| {
            if let Some(same) = ports.iter().find(|p| p["port"] == port["port"] && p["protocol"] == port["protocol"]) {
                remove_unchanged(port, same, &["nodePort"]);
            }
        });
    }
    if now != "LoadBalancer" && before == "LoadBalancer" {
        remove_unchanged(spec, old, &["healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
}

fn remove_unchanged(obj: &mut Value, old: &Value, fields: &[&str]) {
    if let Some(map) = obj.as_object_mut() {
        for field in fields {
            if map.get(*field) == old.get(*field) {
                map.remove(*field);
            }
        }
    }
}

fn validate(root: Node<'_>) {
    let spec = root.get("spec");
    let kind = spec.get("type");
    cluster_ips(spec);
    ports(spec);
    session_affinity(spec);
    meta::labels(spec.get("selector"));
    for address in spec.get("externalIPs").items() {
        if ip::address(address).is_some() {
            ip::not_special(address);
        }
    }
    kind.need_one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    if kind.str() == "ExternalName" {
        external_name(spec.get("externalName"));
    }
    load_balancer(spec);
    external_traffic(spec);
    internal_traffic(spec);
    spec.get("trafficDistribution").one_of_if_set(&["PreferClose", "PreferSameNode", "PreferSameZone"]);
}

fn external_name(name: Node<'_>) {
    if name.need() {
        for message in names::dns1123_subdomain(name.str().strip_suffix('.').unwrap_or(name.str())) {
            name.invalid(message);
        }
    }
}

fn is_headless(spec: Node<'_>) -> bool {
    spec.get("clusterIP").str() == "None"
}

fn ports(spec: Node<'_>) {
    let (list, kind) = (spec.get("ports"), spec.get("type").str());
    if list.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        list.required("");
    }
    let named = list.len() > 1;
    let mut names: Vec<&str> = Vec::new();
    let mut numbers: Vec<(&str, i64)> = Vec::new();
    let mut node_ports: Vec<(&str, i64)> = Vec::new();
    for port in list.items() {
        self::port(port, named, &mut names);
        let protocol = port.get("protocol").str();
        let (number, node_port) = (port.get("port").int(), port.get("nodePort"));
        if numbers.contains(&(protocol, number)) {
            port.duplicate();
        }
        numbers.push((protocol, number));
        if node_port.int() == 0 {
            continue;
        }
        if kind == "ClusterIP" {
            node_port.forbidden("may not be used when `type` is 'ClusterIP'");
        }
        if node_ports.contains(&(protocol, node_port.int())) {
            node_port.duplicate();
        }
        node_ports.push((protocol, node_port.int()));
    }
}

fn port<'a>(port: Node<'a>, named: bool, names: &mut Vec<&'a str>) {
    let name = port.get("name");
    if name.is_empty() {
        if named {
            name.required("");
        }
    } else {
        name.check(names::dns1123_label);
        if names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
    }
    probe::port_number(port.get("port"));
    port.get("protocol").need_one_of(&["TCP", "UDP", "SCTP"]);
    probe::port_or_name(port.get("targetPort"));
    if port.get("appProtocol").is_set() {
        port.get("appProtocol").check(names::qualified_name);
    }
}

fn session_affinity(spec: Node<'_>) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    affinity.need_one_of(&["ClientIP", "None"]);
    if affinity.str() == "ClientIP" {
        let seconds = config.get("clientIP").get("timeoutSeconds");
        if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds.int()) {
            seconds.invalid(format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
        }
    } else if affinity.str() == "None" && config.is_set() {
        config.forbidden("must not be set when session affinity is None");
    }
}

fn load_balancer(spec: Node<'_>) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let is_balancer = spec.get("type").str() == "LoadBalancer";
    let ranges = spec.get("loadBalancerSourceRanges");
    let at = spec.get("LoadBalancerSourceRanges").with(ranges.value);
    if !ranges.is_empty() && !is_balancer {
        at.forbidden(ONLY);
    } else {
        for range in at.items() {
            if ip::parse_cidr(range.str().trim()).is_none() {
                range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
            }
        }
    }
    let (allocate, class) = (spec.get("allocateLoadBalancerNodePorts"), spec.get("loadBalancerClass"));
    if is_balancer {
        if !allocate.is_set() {
            allocate.required("field is required when type is 'LoadBalancer'");
        }
        if class.is_set() {
            class.check(names::qualified_name);
        }
        return;
    }
    for field in [allocate, class] {
        if field.is_set() {
            field.forbidden(ONLY);
        }
    }
}

fn externally_accessible(spec: Node<'_>) -> bool {
    match spec.get("type").str() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.get("externalIPs").is_empty(),
        _ => false,
    }
}

fn external_traffic(spec: Node<'_>) {
    let policy = spec.get("externalTrafficPolicy");
    if !externally_accessible(spec) {
        if !policy.is_empty() {
            policy.invalid("may only be set for externally-accessible services");
        }
    } else if policy.is_empty() {
        if spec.get("type").str() != "ClusterIP" {
            policy.required("");
        }
    } else {
        policy.one_of(&["Cluster", "Local"]);
    }
    let check = spec.get("healthCheckNodePort");
    if check.int() != 0 && !needs_health_check(spec.value) {
        check.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    if check.int() < 0 {
        check.invalid("must be between 0 and 65535, inclusive");
    }
}

fn internal_traffic(spec: Node<'_>) {
    let policy = spec.get("internalTrafficPolicy");
    if policy.is_set() {
        policy.one_of(&["Cluster", "Local"]);
    } else if needs_cluster_ip(spec.value) {
        policy.required("");
    }
}

fn cluster_ips(spec: Node<'_>) {
    let (ips, families, policy) = (spec.get("clusterIPs"), spec.get("ipFamilies"), spec.get("ipFamilyPolicy"));
    if spec.get("type").str() == "ExternalName" {
        for field in [ips, families, policy] {
            if !field.is_empty() {
                field.forbidden("may not be set for services of type ExternalName");
            }
        }
        return;
    }
    for family in families.items() {
        family.one_of(&["IPv4", "IPv6"]);
    }
    families.unique();
    policy.one_of_if_set(&["SingleStack", "PreferDualStack", "RequireDualStack"]);
    cluster_ip_list(spec, ips);
    if ips.len() > 2 {
        ips.invalid("may only hold up to 2 values");
    }
    if spec.get("ipFamilyPolicy").str() == "SingleStack" && ips.len() > 1 {
        policy.invalid("must be RequireDualStack or PreferDualStack when multiple cluster IPs are given");
    }
    match_families(ips, families);
}

fn cluster_ip_list(spec: Node<'_>, ips: Node<'_>) {
    let first = spec.get("clusterIP");
    if first.is_empty() && !ips.is_empty() {
        ips.forbidden("may not be set when `clusterIP` is empty");
        return;
    }
    if ips.is_empty() {
        return;
    }
    if ips.index(0).str() != first.str() {
        ips.index(0).invalid("first value must match `clusterIP`");
    }
    for (i, address) in ips.items().enumerate() {
        if address.str() == "None" {
            if i > 0 || ips.len() > 1 {
                address.invalid("'None' must be the first and only value");
            }
        } else {
            ip::address(address);
        }
    }
    ips.unique();
}

fn match_families(ips: Node<'_>, families: Node<'_>) {
    for (address, family) in ips.items().zip(families.items()) {
        let Some(parsed) = ip::parse_legacy(address.str()) else { continue };
        let is = if parsed.is_ipv4() { "IPv4" } else { "IPv6" };
        if family.str() != is && matches!(family.str(), "IPv4" | "IPv6") {
            address.invalid(format!("expected an {} value as indicated by `ipFamilies`", family.str()));
        }
    }
}

fn transition(root: Node<'_>, old: &Value) {
    let (spec, old_spec) = (root.get("spec"), &old["spec"]);
    if needs_cluster_ip(spec.value) && needs_cluster_ip(old_spec) {
        let (first, before) = (spec.get("clusterIPs").index(0), &old_spec["clusterIPs"][0]);
        if !before.is_null() && first.value != before {
            first.invalid("may not change once set");
        }
        let (family, before) = (spec.get("ipFamilies").index(0), &old_spec["ipFamilies"][0]);
        if !before.is_null() && family.is_set() && family.value != before {
            family.invalid("may not change once set");
        }
    }
    if spec.get("type").str() == "LoadBalancer" && old_spec["type"] == "LoadBalancer" {
        let class = spec.get("loadBalancerClass");
        if class.value != &old_spec["loadBalancerClass"] {
            class.invalid("may not change once set");
        }
    }
}

fn fields(service: &Value) -> Vec<(&'static str, String)> {
    let text = |f: &str| service["spec"][f].as_str().unwrap_or("").to_owned();
    vec![("spec.clusterIP", text("clusterIP")), ("spec.type", text("type"))]
}
