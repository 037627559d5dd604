//! Services. Addresses and node ports are allocated elsewhere; here stand the rules they must keep.

use apimachinery::field::ErrorList;
use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{at, each, object, set, set_empty};
use crate::node::{Node, collect};
use crate::rules::{ip, meta, probe};
use crate::strategy::{Kind, Looks};
use crate::warnings;

pub const KIND: Kind = Kind {
    group: "",
    resource: "services",
    warnings: |root, _| warnings::service(root),
    status_warnings: |root| {
        let balancer = root.get("status").get("loadBalancer");
        balancer.get("ingress").items().for_each(|ingress| warnings::address(ingress.get("ip")));
    },
    name: names::dns1123_label,
    default,
    create: |service| normalize_cluster_ips(service, None),
    update,
    validate,
    transition,
    status,
    fields,
    looks: Looks::AS_NEW,
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
    if is_externally_accessible(spec) {
        set_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = at(service, &["status", "loadBalancer"]) {
            each(balancer, "ingress", |ingress| {
                if ingress["ip"].as_str().is_some_and(|ip| !ip.is_empty()) {
                    set(ingress, "ipMode", "VIP");
                }
            });
        }
    }
}

/// Clients that know only `clusterIP` mean the first of `clusterIPs` (KEP-563). `old` is none for a new Service.
pub fn normalize_cluster_ips(service: &mut Value, old: Option<&Value>) {
    let spec = &mut service["spec"];
    let Some(old) = old.map(|old| &old["spec"]) else {
        if !blank(&spec["clusterIP"]) && blank(&spec["clusterIPs"]) {
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
        }
        return;
    };
    let same = |spec: &Value, field: &str| spec[field] == old[field] || blank(&spec[field]) && blank(&old[field]);
    if blank(&spec["clusterIPs"]) && !blank(&old["clusterIPs"]) && same(spec, "clusterIP") {
        spec["clusterIPs"] = old["clusterIPs"].clone();
    }
    // Where only the old field was changed, the new one follows.
    if same(spec, "clusterIP") || !same(spec, "clusterIPs") {
        return;
    }
    if blank(&spec["clusterIP"]) {
        spec.as_object_mut().map(|spec| spec.remove("clusterIPs"));
    } else {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
}

fn needs_cluster_ip(spec: &Value) -> bool {
    spec["type"] != "ExternalName"
}

fn is_exposed(spec: &Value) -> bool {
    matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"))
}

/// Whether clients outside of the cluster can reach the Service.
fn is_externally_accessible(spec: &Value) -> bool {
    is_exposed(spec) || spec["type"] == "ClusterIP" && !blank(&spec["externalIPs"])
}

/// Whether load balancers ask the nodes of the Service for its health.
pub fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
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

/// Values that were allocated stay where the client left them out, so that it can send the same object twice.
pub fn keep_allocated(service: &mut Value, old: &Value) {
    let (spec, old) = (&mut service["spec"], &old["spec"]);
    if needs_cluster_ip(spec) && needs_cluster_ip(old) {
        if blank(&spec["clusterIP"]) && !blank(&old["clusterIP"]) {
            spec["clusterIP"] = old["clusterIP"].clone();
        }
        if blank(&spec["clusterIPs"]) && !blank(&old["clusterIPs"]) && spec["clusterIP"] == old["clusterIP"] {
            spec["clusterIPs"] = old["clusterIPs"].clone();
        }
    }
    if is_exposed(spec) && is_exposed(old) {
        keep_node_ports(spec, old);
    }
    if needs_health_check(spec) && needs_health_check(old) && !blank(&old["healthCheckNodePort"]) {
        set_empty(spec, "healthCheckNodePort", old["healthCheckNodePort"].clone());
    }
}

fn node_ports(spec: &Value) -> Vec<Value> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    ports.map(|port| port["nodePort"].clone()).filter(|port| !blank(port)).collect()
}

/// A port is told by its name; a node port that another already has is not given to it.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let now = node_ports(spec);
    let mut used: Vec<Value> = node_ports(old).into_iter().filter(|port| now.contains(port)).collect();
    let name = |port: &Value| port["name"].as_str().unwrap_or("").to_owned();
    let known: Vec<(String, Value)> =
        old["ports"].as_array().into_iter().flatten().map(|port| (name(port), port["nodePort"].clone())).collect();
    each(spec, "ports", |port| {
        let before = known.iter().rfind(|(known, _)| *known == name(port)).map(|(_, port)| port.clone());
        if let Some(before) =
            before.filter(|before| blank(&port["nodePort"]) && !blank(before) && !used.contains(before))
        {
            port["nodePort"] = before.clone();
            used.push(before);
        }
    });
}

fn update(service: &mut Value, old: &Value) {
    keep_allocated(service, old);
    normalize_cluster_ips(service, Some(old));
    drop_type_dependent(&mut service["spec"], &old["spec"]);
}

/// A change of type takes the fields along that only the old type had, if they were left as they were.
fn drop_type_dependent(spec: &mut Value, old: &Value) {
    let same = |spec: &Value, field: &str| spec[field] == old[field] || blank(&spec[field]) && blank(&old[field]);
    let mut gone: Vec<&str> = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(spec) {
        if same(spec, "clusterIP") && same(spec, "clusterIPs") {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        gone.extend(["ipFamilies", "ipFamilyPolicy"].iter().filter(|field| same(spec, field)));
    }
    if needs_health_check(old) && !needs_health_check(spec) && same(spec, "healthCheckNodePort") {
        gone.push("healthCheckNodePort");
    }
    if old["type"] == "LoadBalancer" && spec["type"] != "LoadBalancer" {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"].iter().filter(|field| same(spec, field)));
    }
    if is_externally_accessible(old) && !is_externally_accessible(spec) && same(spec, "externalTrafficPolicy") {
        gone.push("externalTrafficPolicy");
    }
    if is_exposed(old) && !is_exposed(spec) && node_ports(spec) == node_ports(old) {
        each(spec, "ports", |port| {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        });
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|field, _| !gone.contains(&field.as_str()));
    }
}

fn validate(root: Node<'_>) {
    let (spec, annotations) = (root.get("spec"), root.get("metadata").get("annotations"));
    let kind = spec.get("type");
    topology_mode(annotations);
    headless(spec);
    cluster_ip_fields(spec);
    ports(spec);
    session_affinity(spec);
    meta::labels(spec.get("selector"));
    for address in spec.get("externalIPs").items() {
        if ip::address(address).is_some() {
            ip::not_special(address);
        }
    }
    kind.need_one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    source_ranges(spec, annotations);
    load_balancer(spec);
    external_traffic(spec);
    internal_traffic(spec);
    spec.get("trafficDistribution").one_of_if_set(&["PreferClose", "PreferSameNode", "PreferSameZone"]);
}

/// The old annotation and the new one say the same, where both are there.
fn topology_mode(annotations: Node<'_>) {
    let old = annotations.entry("service.kubernetes.io/topology-aware-hints");
    let new = annotations.entry("service.kubernetes.io/topology-mode");
    if old.is_set() && new.is_set() && old.value != new.value {
        new.invalid("must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified");
    }
}

/// Types that are reached at an address have one; an external name has none.
fn headless(spec: Node<'_>) {
    let (kind, ips) = (spec.get("type").str(), spec.get("clusterIPs"));
    if is_exposed(spec.value) && is_headless(spec) {
        ips.index(0).invalid(format!("may not be set to 'None' for {kind} services"));
    }
    if kind != "ExternalName" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        if !spec.get(field).is_empty() {
            spec.get(field).forbidden("may not be set for ExternalName services");
        }
    }
    if spec.get("ipFamilyPolicy").is_set() {
        spec.get("ipFamilyPolicy").forbidden("may not be set for ExternalName services");
    }
    external_name(spec.get("externalName"));
}

fn external_name(name: Node<'_>) {
    let bare = name.str().strip_suffix('.').unwrap_or(name.str());
    if bare.is_empty() {
        name.required("");
        return;
    }
    for message in names::dns1123_subdomain(bare) {
        name.invalid(message);
    }
}

fn is_headless(spec: Node<'_>) -> bool {
    spec.get("clusterIPs").len() == 1 && spec.get("clusterIPs").index(0).str() == "None"
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

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// Clients that may use the load balancer, in a field or, as of old, in an annotation.
fn source_ranges(spec: Node<'_>, annotations: Node<'_>) {
    let is_balancer = spec.get("type").str() == "LoadBalancer";
    let range = |at: Node<'_>, text: &str| {
        // As the annotation's once, the field's values may have spaces around them.
        if ip::parse_cidr(text.trim()).is_none() {
            at.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    };
    let ranges = spec.get("LoadBalancerSourceRanges").with(spec.get("loadBalancerSourceRanges").value);
    let annotation = annotations.entry("service.beta.kubernetes.io/load-balancer-source-ranges");
    let at = if ranges.is_empty() { annotation } else { ranges };
    if !at.is_set() || ranges.is_empty() && !annotation.is_set() {
        return;
    }
    if !is_balancer {
        at.forbidden(ONLY_BALANCED);
    }
    ranges.items().for_each(|item| range(item, item.str()));
    if ranges.is_empty() && !annotation.str().trim().is_empty() {
        annotation.str().split(',').for_each(|text| range(annotation, text));
    }
}

fn load_balancer(spec: Node<'_>) {
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if spec.get("type").str() != "LoadBalancer" && allocate.is_set() {
        allocate.forbidden(ONLY_BALANCED);
    }
    load_balancer_class(spec);
}

fn load_balancer_class(spec: Node<'_>) {
    let class = spec.get("loadBalancerClass");
    if !class.is_set() {
        return;
    }
    if spec.get("type").str() == "LoadBalancer" {
        class.check(names::qualified_name);
    } else {
        class.forbidden(ONLY_BALANCED);
    }
}

fn external_traffic(spec: Node<'_>) {
    let policy = spec.get("externalTrafficPolicy");
    if is_externally_accessible(spec.value) {
        policy.need_one_of(&["Cluster", "Local"]);
    } else if !policy.is_empty() {
        policy.invalid("may only be set for externally-accessible services");
    }
    let check = spec.get("healthCheckNodePort");
    if needs_health_check(spec.value) {
        if check.int() == 0 {
            check.required("");
        } else {
            probe::port_number(check);
        }
    } else if check.int() != 0 {
        check.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
}

fn internal_traffic(spec: Node<'_>) {
    let policy = spec.get("internalTrafficPolicy");
    if policy.is_set() {
        policy.one_of(&["Cluster", "Local"]);
    } else if matches!(spec.get("type").str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        policy.required("");
    }
}

/// The rules of the fields that say which addresses a Service has. They are looked at before any address is allocated.
fn cluster_ip_fields(spec: Node<'_>) {
    if spec.get("type").str() == "ExternalName" {
        return;
    }
    let (first, ips, families, policy) =
        (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"), spec.get("ipFamilyPolicy"));
    match (first.is_empty(), ips.is_empty()) {
        (false, true) => ips.required(""),
        (false, false) if ips.index(0).str() != first.str() => ips.invalid("first value must match `clusterIP`"),
        (true, false) => ips.invalid("must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    families.items().for_each(|family| family.one_of(&["IPv4", "IPv6"]));
    families.unique();
    policy.one_of_if_set(&["PreferDualStack", "RequireDualStack", "SingleStack"]);
    if addresses(ips) {
        match_families(ips, families);
    }
}

/// The rules of `cluster_ip_fields`, of a whole Service.
pub fn validate_cluster_ip_fields(service: &Value) -> ErrorList {
    collect(service, |root| cluster_ip_fields(root.get("spec")))
}

/// The addresses themselves: whether all can be read.
fn addresses(ips: Node<'_>) -> bool {
    let mut good = true;
    for (i, address) in ips.items().enumerate() {
        if i == 0 && address.str() == "None" {
            if ips.len() > 1 {
                good = false;
                ips.invalid("'None' must be the first and only value");
            }
        } else {
            good &= ip::address(address).is_some();
        }
    }
    if ips.len() > 2 {
        ips.invalid("may only hold up to 2 values");
    }
    let parsed: Vec<_> = ips.items().filter_map(|address| ip::parse_legacy(address.str())).collect();
    let dual = parsed.iter().any(|a| a.is_ipv4()) && parsed.iter().any(|a| a.is_ipv6());
    if good && ips.len() > 1 && !dual {
        ips.invalid("may specify no more than one IP for each IP family");
    }
    good
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

/// What an address was once it stays, but for a second one, which may come and go (KEP-563).
fn transition(root: Node<'_>, old: &Value) {
    let (spec, old_spec) = (root.get("spec"), &old["spec"]);
    if needs_cluster_ip(spec.value) && needs_cluster_ip(old_spec) {
        let was_headless = old_spec["clusterIPs"] == json!(["None"]);
        if !(was_headless && is_headless(spec)) {
            list_changes(spec, "clusterIPs", &old_spec["clusterIPs"], true);
        }
        if !was_headless && !is_headless(spec) {
            list_changes(spec, "ipFamilies", &old_spec["ipFamilies"], false);
        }
    }
    let class = spec.get("loadBalancerClass");
    if spec.get("type").str() == "LoadBalancer"
        && old_spec["type"] == "LoadBalancer"
        && class.value != &old_spec["loadBalancerClass"]
    {
        class.invalid("may not change once set");
    }
    // Looked at with the change and with the object.
    load_balancer_class(spec);
    let check = spec.get("healthCheckNodePort");
    if needs_health_check(spec.value) && needs_health_check(old_spec) && check.value != &old_spec["healthCheckNodePort"]
    {
        check.forbidden("field is immutable");
    }
}

/// `at_item`: whether a changed item is reported at its own place or at that of the first.
fn list_changes(spec: Node<'_>, field: &'static str, old: &Value, at_item: bool) {
    let list = spec.get(field);
    let old = old.as_array().map_or(&[][..], Vec::as_slice);
    let changed = |index: usize| list.index(index).value != &old[index];
    if old.len() == list.len() {
        for index in (0..old.len()).filter(|index| changed(*index)) {
            list.index(if at_item { index } else { 0 }).invalid("may not change once set");
        }
        return;
    }
    if list.is_empty() && (at_item || spec.get("clusterIPs").is_empty()) {
        list.index(0).invalid("the primary one can not be unset");
    }
    if !old.is_empty() && !list.is_empty() && changed(0) {
        list.index(0).invalid("may not change once set");
    }
    let policy = spec.get("ipFamilyPolicy");
    if old.len() > list.len() && list.len() == 1 && policy.str() != "SingleStack" {
        policy.invalid("must be set to 'SingleStack' when releasing the secondary one");
    }
}

/// What a load balancer tells of itself.
fn status(root: Node<'_>, _old: &Value) {
    let (ingress, spec) = (root.get("status").get("loadBalancer").get("ingress"), root.get("spec"));
    if spec.get("type").str() != "LoadBalancer" && !ingress.is_empty() {
        ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for entry in ingress.items() {
        let (address, mode, host) = (entry.get("ip"), entry.get("ipMode"), entry.get("hostname"));
        if !address.is_empty() {
            ip::address(address);
        }
        match (mode.is_set(), address.is_empty()) {
            (false, false) => mode.required("must be specified when `ip` is set"),
            (true, true) => mode.forbidden("may not be specified when `ip` is not set"),
            (true, false) => mode.one_of(&["Proxy", "VIP"]),
            (false, true) => {}
        }
        if !host.is_empty() {
            host.check(names::dns1123_subdomain);
            if ip::parse_legacy(host.str()).is_some() {
                host.invalid("must be a DNS name, not an IP address");
            }
        }
    }
}

fn fields(service: &Value) -> Vec<(&'static str, String)> {
    let text = |f: &str| service["spec"][f].as_str().unwrap_or("").to_owned();
    vec![("spec.clusterIP", text("clusterIP")), ("spec.type", text("type"))]
}
