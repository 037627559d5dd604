//! Ingresses and their classes, network policies, service networks and their addresses.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{each, object, set, set_empty};
use crate::node::Node;
use crate::rules::{ip, labels, probe};
use crate::strategy::Kind;
use crate::warnings;

const TEMPLATE: Kind = Kind { group: "networking.k8s.io", ..Kind::PLAIN };

pub const INGRESS: Kind = Kind {
    resource: "ingresses",
    validate: |root| ingress(root.get("spec")),
    warnings: |root, old| {
        const OLD_CLASS: &str = "kubernetes.io/ingress.class";
        if old.is_none() && root.get("metadata").get("annotations").entry(OLD_CLASS).is_set() {
            root.remark(format!("annotation {OLD_CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
        }
    },
    generation: true,
    ..TEMPLATE
};

pub const INGRESS_CLASS: Kind = Kind {
    resource: "ingressclasses",
    default: |class| {
        if let Some(parameters) = crate::defaults::at(class, &["spec", "parameters"]) {
            set(parameters, "scope", "Cluster");
        }
    },
    validate: |root| ingress_class(root.get("spec")),
    transition: |root, old| root.get("spec").get("controller").immutable(&old["spec"]["controller"]),
    generation: true,
    ..TEMPLATE
};

pub const NETWORK_POLICY: Kind = Kind {
    resource: "networkpolicies",
    warnings: |root, _| {
        for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
            let rules = root.get("spec").get(rules).items();
            for block in rules.flat_map(|rule| rule.get(peers).items()).map(|peer| peer.get("ipBlock")) {
                warnings::network(block.get("cidr"));
                block.get("except").items().for_each(warnings::network);
            }
        }
    },
    default: default_policy,
    validate: |root| policy(root.get("spec")),
    generation: true,
    ..TEMPLATE
};

pub const SERVICE_CIDR: Kind = Kind {
    resource: "servicecidrs",
    validate: |root| service_cidr(root.get("spec").get("cidrs")),
    transition: |root, old| {
        let (cidrs, before) = (root.get("spec").get("cidrs"), &old["spec"]["cidrs"]);
        if before.as_array().is_some_and(|c| c.len() > 1) || cidrs.value[0] != before[0] {
            cidrs.immutable(before);
        }
    },
    ..TEMPLATE
};

pub const IP_ADDRESS: Kind = Kind {
    resource: "ipaddresses",
    name: |name| {
        if ip::is_canonical(name) { vec![] } else { vec!["must be a valid IP address in canonical form".to_owned()] }
    },
    validate: |root| parent_reference(root.get("spec").get("parentRef")),
    transition: |root, old| root.get("spec").get("parentRef").immutable(&old["spec"]["parentRef"]),
    fields: |address| {
        let parent = &address["spec"]["parentRef"];
        let text = |f: &str| parent[f].as_str().unwrap_or("").to_owned();
        vec![
            ("spec.parentRef.group", text("group")),
            ("spec.parentRef.resource", text("resource")),
            ("spec.parentRef.namespace", text("namespace")),
            ("spec.parentRef.name", text("name")),
        ]
    },
    ..TEMPLATE
};

/// A host of a rule: a domain, the first label of which may be `*`.
fn host(host: Node<'_>) {
    host.check(if host.str().contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain });
}

fn ingress(spec: Node<'_>) {
    let (rules, backend, class) = (spec.get("rules"), spec.get("defaultBackend"), spec.get("ingressClassName"));
    if rules.is_empty() && !backend.is_set() {
        spec.invalid("either `defaultBackend` or `rules` must be specified");
    }
    if class.is_set() {
        class.check(names::dns1123_subdomain);
    }
    if backend.is_set() {
        self::backend(backend);
    }
    for rule in rules.items() {
        self::rule(rule);
    }
    for tls in spec.get("tls").items() {
        for name in tls.get("hosts").items() {
            host(name);
        }
        tls.get("secretName").check_if_set(names::dns1123_subdomain);
    }
}

fn rule(rule: Node<'_>) {
    let name = rule.get("host");
    if !name.is_empty() {
        if name.str().parse::<std::net::IpAddr>().is_ok() {
            name.invalid("must be a DNS name, not an IP address");
        }
        host(name);
    }
    let http = rule.get("http");
    if !http.is_set() {
        return;
    }
    if http.get("paths").is_empty() {
        http.get("paths").required("");
    }
    for path in http.get("paths").items() {
        self::path(path);
    }
}

fn path(entry: Node<'_>) {
    let (kind, path) = (entry.get("pathType"), entry.get("path"));
    if !kind.is_set() {
        kind.required("pathType must be specified");
        return;
    }
    match kind.str() {
        "Exact" | "Prefix" => {
            if !path.str().starts_with('/') {
                path.invalid_value(path.str(), "must be an absolute path");
            } else {
                clean_path(path);
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.str().starts_with('/') {
                path.invalid("must be an absolute path");
            }
        }
        _ => kind.not_supported(&["Exact", "Prefix", "ImplementationSpecific"]),
    }
    backend(entry.get("backend"));
}

fn clean_path(path: Node<'_>) {
    for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
        if path.str().contains(sequence) {
            path.invalid(format!("must not contain '{sequence}'"));
        }
    }
    for suffix in ["/..", "/."] {
        if path.str().ends_with(suffix) {
            path.invalid(format!("cannot end with '{suffix}'"));
        }
    }
}

/// A service's port, or another object.
fn backend(backend: Node<'_>) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => backend.invalid("cannot set both resource and service backends"),
        (false, false) => backend.invalid_value("", "resource or service backend is required"),
        (false, true) => {
            resource.get("kind").need();
            resource.get("name").need();
        }
        (true, false) => {
            service.get("name").need_check(names::dns1123_label);
            let (number, name) = (service.get("port").get("number"), service.get("port").get("name"));
            match (number.int() != 0, !name.is_empty()) {
                (true, true) => backend.invalid("cannot set both port name & port number"),
                (false, false) => backend.required("port name or number is required"),
                (true, false) => {
                    if !(1..=65535).contains(&number.int()) {
                        service.get("port").get("number").invalid("must be between 1 and 65535, inclusive");
                    }
                }
                (false, true) => name.check(names::port_name),
            }
        }
    }
}

fn ingress_class(spec: Node<'_>) {
    const CONTROLLER_MAX: usize = 250;
    let controller = spec.get("controller");
    if controller.is_empty() {
        controller.required("");
    } else {
        if controller.len() > CONTROLLER_MAX {
            controller.too_long(CONTROLLER_MAX);
        }
        domain_prefixed_path(controller);
    }
    let parameters = spec.get("parameters");
    if parameters.is_set() {
        class_parameters(parameters);
    }
}

fn domain_prefixed_path(name: Node<'_>) {
    let Some((domain, path)) = name.str().split_once('/').filter(|(d, p)| !d.is_empty() && !p.is_empty()) else {
        name.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    for message in names::dns1123_subdomain(domain) {
        name.invalid(message);
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(c);
    if !path.chars().all(valid) {
        name.invalid("must be a valid path after the domain");
    }
}

fn class_parameters(parameters: Node<'_>) {
    for field in ["kind", "name"] {
        if parameters.get(field).need() {
            parameters.get(field).check(names::path_segment);
        }
    }
    parameters.get("apiGroup").check_if_set(names::dns1123_subdomain);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    scope.one_of(&["Cluster", "Namespace"]);
    if scope.str() == "Namespace" {
        namespace.need_check(names::dns1123_label);
    } else if scope.str() == "Cluster" && namespace.is_set() {
        namespace.forbidden("`parameters.scope` is set to 'Cluster'");
    }
}

fn default_policy(policy: &mut Value) {
    let spec = object(policy, "spec");
    for (rules, _) in [("ingress", "from"), ("egress", "to")] {
        each(spec, rules, |rule| each(rule, "ports", |port| set(port, "protocol", "TCP")));
    }
    if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) {
        let egress = spec["egress"].as_array().is_some_and(|e| !e.is_empty());
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    set_empty(spec, "podSelector", json!({}));
}

fn policy(spec: Node<'_>) {
    labels::selector(spec.get("podSelector"));
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            rule.get("ports").items().for_each(policy_port);
            rule.get(peers).items().for_each(peer);
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        types.invalid("may not specify more than two policyTypes");
        return;
    }
    for kind in types.items() {
        kind.one_of(&["Ingress", "Egress"]);
    }
}

fn policy_port(port: Node<'_>) {
    let (number, end) = (port.get("port"), port.get("endPort"));
    port.get("protocol").one_of_if_set(&["TCP", "UDP", "SCTP"]);
    if !number.is_set() {
        if end.is_set() {
            end.invalid("may not be specified when `port` is not specified");
        }
        return;
    }
    probe::port_or_name(number);
    if !end.is_set() {
        return;
    }
    if number.value.is_string() {
        end.invalid("may not be specified when `port` is non-numeric");
        return;
    }
    if end.int() < number.int() {
        end.invalid("must be greater than or equal to `port`");
    }
    probe::port_number(end);
}

fn peer(peer: Node<'_>) {
    let (pods, namespaces, block) = (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    labels::selector(pods);
    labels::selector(namespaces);
    if block.is_set() {
        ip_block(block);
        if pods.is_set() || namespaces.is_set() {
            peer.forbidden("may not specify both ipBlock and another peer");
        }
    } else if !pods.is_set() && !namespaces.is_set() {
        peer.required("must specify a peer");
    }
}

fn ip_block(block: Node<'_>) {
    let cidr = block.get("cidr");
    if !cidr.need() {
        return;
    }
    let Some(whole) = ip::cidr(cidr) else { return };
    for except in block.get("except").items() {
        let Some(part) = ip::cidr(except) else { continue };
        if !ip::contains(whole, part.0) || part.1 <= whole.1 {
            except.invalid(format!("must be a strict subset of `cidr`: {}", cidr.str()));
        }
    }
}

fn service_cidr(cidrs: Node<'_>) {
    if cidrs.is_empty() {
        cidrs.required("at least one CIDR required");
        return;
    }
    if cidrs.len() > 2 {
        cidrs.invalid("may only hold up to 2 values");
    }
    let mut families: Vec<bool> = Vec::new();
    for cidr in cidrs.items() {
        let Some((address, length)) = ip::cidr(cidr) else { continue };
        let network = ipnet::IpNet::new(address, length).map(|n| n.trunc().to_string());
        if network.as_deref() != Ok(cidr.str()) {
            cidr.invalid("must be in canonical form");
        }
        families.push(address.is_ipv4());
    }
    if families.len() == 2 && families[0] == families[1] {
        cidrs.invalid("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64");
    }
}

fn parent_reference(parent: Node<'_>) {
    if !parent.is_set() {
        parent.required("");
        return;
    }
    parent.get("group").check_if_set(names::dns1123_subdomain);
    for field in ["resource", "name"] {
        if parent.get(field).need() {
            parent.get(field).check(names::path_segment);
        }
    }
    parent.get("namespace").check_if_set(names::path_segment);
}
