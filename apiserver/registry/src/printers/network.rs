//! Services, their endpoints, and what leads to them.

use apimachinery::time::Moment;
use serde_json::{Value, json};

use super::format::{self, NONE, UNSET, list};
use super::{AGE, NAME, Printer, cells, text, wide};

const GROUP: &str = "networking.k8s.io";

pub(super) const ALL: &[Printer] = &[
    Printer {
        group: "",
        resource: "services",
        columns: &[NAME, text("Type"), text("Cluster-IP"), text("External-IP"), text("Port(s)"), AGE, wide("Selector")],
        row: service,
    },
    Printer {
        group: "",
        resource: "endpoints",
        columns: &[NAME, text("Endpoints"), AGE],
        row: |endpoints, now| cells(endpoints, [json!(subsets(endpoints)), format::age(endpoints, now)]),
    },
    Printer {
        group: "discovery.k8s.io",
        resource: "endpointslices",
        columns: &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE],
        row: |slice, now| {
            let (ports, addresses) = (json!(slice_ports(slice)), json!(slice_addresses(slice)));
            cells(slice, [format::text(&slice["addressType"]), ports, addresses, format::age(slice, now)])
        },
    },
    Printer {
        group: GROUP,
        resource: "ingresses",
        columns: &[NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE],
        row: ingress,
    },
    Printer {
        group: GROUP,
        resource: "ingressclasses",
        columns: &[NAME, text("Controller"), text("Parameters"), AGE],
        row: |class, now| {
            let spec = &class["spec"];
            let parameters = json!(class_parameters(&spec["parameters"]));
            cells(class, [format::text(&spec["controller"]), parameters, format::age(class, now)])
        },
    },
    Printer {
        group: GROUP,
        resource: "networkpolicies",
        columns: &[NAME, text("Pod-Selector"), AGE],
        row: |policy, now| {
            let selector = json!(format::selector(&policy["spec"]["podSelector"]));
            cells(policy, [selector, format::age(policy, now)])
        },
    },
    Printer {
        group: GROUP,
        resource: "servicecidrs",
        columns: &[NAME, text("CIDRs"), AGE],
        row: |cidr, now| cells(cidr, [json!(format::texts(&cidr["spec"]["cidrs"], ",")), format::age(cidr, now)]),
    },
    Printer {
        group: GROUP,
        resource: "ipaddresses",
        columns: &[NAME, text("ParentRef")],
        row: |address, now| {
            // Kubernetes gives the age too, though no column has it.
            cells(address, [json!(parent(&address["spec"]["parentRef"])), format::age(address, now)])
        },
    },
];

/// How many addresses, hosts and ports are shown.
const SHOWN: usize = 3;

fn service(service: &Value, now: Moment) -> Vec<Value> {
    let spec = &service["spec"];
    let own = spec["clusterIPs"][0].as_str().or_else(|| spec["clusterIP"].as_str()).filter(|s| !s.is_empty());
    cells(
        service,
        [
            format::text(&spec["type"]),
            json!(own.unwrap_or(NONE)),
            json!(external_ip(service)),
            json!(service_ports(&spec["ports"])),
            format::age(service, now),
            json!(format::labels(&spec["selector"])),
        ],
    )
}

fn external_ip(service: &Value) -> String {
    let spec = &service["spec"];
    let mut all: Vec<&str> = list(&spec["externalIPs"]).iter().filter_map(Value::as_str).collect();
    match spec["type"].as_str().unwrap_or("") {
        "ExternalName" => return spec["externalName"].as_str().unwrap_or("").to_owned(),
        "LoadBalancer" => {
            let ingress = list(&service["status"]["loadBalancer"]["ingress"]).iter();
            let given: Vec<&str> =
                ingress.filter_map(|i| i["ip"].as_str().or_else(|| i["hostname"].as_str())).collect();
            all.splice(0..0, given);
            if all.is_empty() {
                return "<pending>".to_owned();
            }
        }
        _ => {}
    }
    if all.is_empty() { NONE.to_owned() } else { all.join(",") }
}

fn service_ports(ports: &Value) -> String {
    let shown: Vec<String> = list(ports)
        .iter()
        .map(|port| {
            let (number, protocol) = (format::plain(&port["port"]), port["protocol"].as_str().unwrap_or("TCP"));
            match port["nodePort"].as_i64().filter(|n| *n > 0) {
                Some(node) => format!("{number}:{node}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    if shown.is_empty() { NONE.to_owned() } else { shown.join(",") }
}

fn subsets(endpoints: &Value) -> String {
    let mut all: Vec<String> = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        let addresses = list(&subset["addresses"]).iter().map(|a| a["ip"].as_str().unwrap_or(""));
        let ports = list(&subset["ports"]);
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            for address in addresses.clone() {
                let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                all.push(format!("{host}:{}", format::plain(&port["port"])));
            }
        }
    }
    if all.is_empty() { NONE.to_owned() } else { format::first_few(&all, SHOWN) }
}

fn slice_ports(slice: &Value) -> String {
    let ports = list(&slice["ports"]);
    let all: Vec<String> = ports
        .iter()
        .map(|port| match (port["name"].as_str().unwrap_or(""), &port["port"]) {
            (_, Value::Number(number)) => number.to_string(),
            ("", _) => "*".to_owned(),
            (name, _) => name.to_owned(),
        })
        .collect();
    if all.is_empty() { UNSET.to_owned() } else { format::first_few(&all, SHOWN) }
}

fn slice_addresses(slice: &Value) -> String {
    let endpoints = list(&slice["endpoints"]).iter();
    let all: Vec<String> =
        endpoints.flat_map(|e| list(&e["addresses"])).filter_map(|a| a.as_str().map(str::to_owned)).collect();
    if all.is_empty() { UNSET.to_owned() } else { format::first_few(&all, SHOWN) }
}

fn ingress(ingress: &Value, now: Moment) -> Vec<Value> {
    let spec = &ingress["spec"];
    let hosts: Vec<String> = list(&spec["rules"])
        .iter()
        .filter_map(|r| r["host"].as_str().filter(|h| !h.is_empty()).map(str::to_owned))
        .collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { format::first_few(&hosts, SHOWN) };
    let given = list(&ingress["status"]["loadBalancer"]["ingress"]).iter();
    let addresses: Vec<&str> =
        given.filter_map(|i| i["ip"].as_str().filter(|s| !s.is_empty()).or_else(|| i["hostname"].as_str())).collect();
    let ports = if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" };
    cells(
        ingress,
        [
            format::text_or(&spec["ingressClassName"], NONE),
            json!(hosts),
            json!(addresses.join(",")),
            json!(ports),
            format::age(ingress, now),
        ],
    )
}

fn class_parameters(parameters: &Value) -> String {
    if !parameters.is_object() {
        return NONE.to_owned();
    }
    let (kind, name) = (format::plain(&parameters["kind"]), format::plain(&parameters["name"]));
    match parameters["apiGroup"].as_str() {
        Some(group) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// A reference as `resource.group/namespace/name`, without what is empty.
fn parent(parent: &Value) -> String {
    let field = |f: &str| parent[f].as_str().filter(|s| !s.is_empty());
    let resource = field("resource").unwrap_or("");
    let resource = field("group").map_or_else(|| resource.to_owned(), |group| format!("{resource}.{group}"));
    let parts = [Some(resource.as_str()), field("namespace"), field("name")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}
