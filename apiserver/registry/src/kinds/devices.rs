//! Dynamic resource allocation: device classes, claims, their templates, and slices.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{at, each, set_empty};
use crate::node::Node;
use crate::rules::{affinity, cel, labels};
use crate::strategy::{Kind, Looks, Object};

const TEMPLATE: Kind = Kind { group: "resource.k8s.io", ..Kind::PLAIN };

pub const DEVICE_CLASS: Kind = Kind {
    resource: "deviceclasses",
    validate: |root| {
        selectors(root.get("spec").get("selectors"));
        for config in root.get("spec").get("config").items() {
            opaque(config);
        }
    },
    generation: true,
    ..TEMPLATE
};

pub const CLAIM: Kind = Kind {
    resource: "resourceclaims",
    default: |claim| {
        if let Some(devices) = at(claim, &["spec", "devices"]) {
            default_devices(devices);
        }
    },
    create: |claim| claim["status"] = json!({}),
    validate: |root| devices(root.get("spec").get("devices")),
    transition: |root, old| {
        if root.get("spec").value != &old["spec"] {
            root.get("spec").invalid("field is immutable");
        }
    },
    looks: Looks { object: Object::UnlessRefused, ..Looks::ONCE },
    ..TEMPLATE
};

pub const CLAIM_TEMPLATE: Kind = Kind {
    resource: "resourceclaimtemplates",
    default: |template| {
        if let Some(devices) = at(template, &["spec", "spec", "devices"]) {
            default_devices(devices);
        }
    },
    validate: |root| devices(root.get("spec").get("spec").get("devices")),
    transition: |root, old| {
        if root.get("spec").value != &old["spec"] {
            root.get("spec").invalid("field is immutable");
        }
    },
    ..TEMPLATE
};

pub const SLICE: Kind = Kind {
    resource: "resourceslices",
    validate: |root| slice(root.get("spec")),
    transition: |root, old| {
        for field in ["driver", "nodeName"] {
            root.get("spec").get(field).immutable(&old["spec"][field]);
        }
        root.get("spec").get("pool").get("name").immutable(&old["spec"]["pool"]["name"]);
    },
    generation: true,
    fields: |slice| {
        let text = |f: &str| slice["spec"][f].as_str().unwrap_or("").to_owned();
        vec![("spec.nodeName", text("nodeName")), ("spec.driver", text("driver"))]
    },
    ..TEMPLATE
};

const REQUESTS_MAX: usize = 32;
const STRING_MAX: usize = 64;

fn default_devices(devices: &mut Value) {
    each(devices, "requests", |request| {
        if let Some(exactly) = at(request, &["exactly"]) {
            default_request(exactly);
        }
        each(request, "firstAvailable", default_request);
        // Older versions put the one request in the list's item itself.
        if request.get("deviceClassName").is_some() {
            default_request(request);
        }
    });
}

fn default_request(request: &mut Value) {
    set_empty(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        set_empty(request, "count", 1);
    }
    each(request, "tolerations", |toleration| set_empty(toleration, "operator", "Equal"));
}

fn selectors(list: Node<'_>) {
    list.at_most(32);
    let scope = apiserver_cel::check::Scope::of(&["device"]);
    for selector in list.items() {
        let expression = selector.get("cel");
        if !expression.is_set() {
            expression.required("");
            continue;
        }
        let text = expression.get("expression");
        if let Err(detail) = cel::check_predicate(text.str(), &scope) {
            text.invalid_value(text.str(), detail);
        }
    }
}

fn opaque(config: Node<'_>) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        opaque.required("");
        return;
    }
    driver_name(opaque.get("driver"));
    if !opaque.get("parameters").is_set() {
        opaque.get("parameters").required("");
    }
}

fn driver_name(name: Node<'_>) {
    if name.need() {
        if name.len() > 63 {
            name.too_long(63);
        }
        for message in names::dns1123_subdomain(&name.str().to_lowercase()) {
            name.invalid(message);
        }
    }
}

fn joined(node: Node<'_>, rule: fn(&str) -> Vec<String>) {
    let messages = rule(node.str());
    if !messages.is_empty() {
        node.invalid_value(node.str(), messages.join("; "));
    }
}

fn devices(devices: Node<'_>) {
    let requests = devices.get("requests");
    requests.at_most(REQUESTS_MAX);
    let mut names: Vec<&str> = Vec::new();
    for request in requests.items() {
        let name = request.get("name");
        joined(name, names::dns1123_label);
        if !name.is_empty() && names.contains(&name.str()) {
            request.duplicate();
        }
        names.push(name.str());
        self::request(request);
    }
    for constraint in devices.get("constraints").items() {
        known_requests(constraint.get("requests"), &names);
    }
    for config in devices.get("config").items() {
        known_requests(config.get("requests"), &names);
        opaque(config);
    }
}

fn known_requests(list: Node<'_>, names: &[&str]) {
    for name in list.items() {
        let main = name.str().split('/').next().unwrap_or("");
        if !names.contains(&main) {
            name.invalid("must be the name of a request in the claim");
        }
    }
}

/// One request, or several to take the first available of.
fn request(request: Node<'_>) {
    let (exactly, first) = (request.get("exactly"), request.get("firstAvailable"));
    // Older versions have no field for the one request.
    let inline = request.get("deviceClassName");
    match (exactly.is_set() || inline.is_set(), !first.is_empty()) {
        (true, true) => {
            request.invalid("exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set")
        }
        (false, false) => request.required("exactly one of `exactly` or `firstAvailable` is required"),
        (true, false) => exact(if exactly.is_set() { exactly } else { request }),
        (false, true) => {
            first.at_most(8);
            let mut names: Vec<&str> = Vec::new();
            for sub in first.items() {
                joined(sub.get("name"), names::dns1123_label);
                if names.contains(&sub.get("name").str()) {
                    sub.duplicate();
                }
                names.push(sub.get("name").str());
                exact(sub);
            }
        }
    }
}

fn exact(request: Node<'_>) {
    let (class, mode, count) = (request.get("deviceClassName"), request.get("allocationMode"), request.get("count"));
    class.need_check(names::dns1123_subdomain);
    selectors(request.get("selectors"));
    match mode.str() {
        "ExactCount" => {
            if count.int() <= 0 {
                count.invalid("must be greater than zero");
            }
        }
        "All" => {
            if count.int() != 0 {
                count.invalid("must not be specified when allocationMode is 'All'");
            }
        }
        _ => mode.not_supported(&["All", "ExactCount"]),
    }
    for toleration in request.get("tolerations").items() {
        self::toleration(toleration);
    }
}

fn toleration(toleration: Node<'_>) {
    let (key, operator) = (toleration.get("key"), toleration.get("operator"));
    if !key.is_empty() {
        labels::name(key);
    }
    operator.need_one_of(&["Equal", "Exists"]);
    if operator.str() == "Exists" && !toleration.get("value").is_empty() {
        toleration.get("value").invalid("must be empty for operator `Exists`");
    }
    if key.is_empty() && operator.str() != "Exists" {
        key.required("when the key is empty, the operator must be Exists");
    }
    if !toleration.get("effect").is_empty() {
        toleration.get("effect").one_of(&["NoExecute", "NoSchedule", "None"]);
    }
}

fn slice(spec: Node<'_>) {
    const DEVICES_MAX: usize = 128;
    placement(spec);
    driver_name(spec.get("driver"));
    pool(spec.get("pool"));
    let devices = spec.get("devices");
    devices.at_most(DEVICES_MAX);
    let mut names: Vec<&str> = Vec::new();
    for device in devices.items() {
        let name = device.get("name");
        joined(name, names::dns1123_label);
        if !name.is_empty() && names.contains(&name.str()) {
            device.duplicate();
        }
        names.push(name.str());
        self::device(device);
    }
}

/// The devices are on one node, on selected ones, on all, or each says.
fn placement(spec: Node<'_>) {
    let (node, selector) = (spec.get("nodeName"), spec.get("nodeSelector"));
    if node.is_set() {
        joined(node, names::dns1123_subdomain);
    }
    if selector.is_set() {
        affinity::node_selector(selector);
    }
    let stated = [
        !node.is_empty(),
        selector.is_set(),
        spec.get("allNodes").bool(),
        spec.get("perDeviceNodeSelection").bool(),
        !spec.get("sharedCounters").is_empty(),
    ];
    match stated.iter().filter(|s| **s).count() {
        0 => spec.required("exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"),
        1 => {}
        _ => spec.invalid("exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"),
    }
}

fn pool(pool: Node<'_>) {
    let (name, count) = (pool.get("name"), pool.get("resourceSliceCount"));
    if name.is_empty() {
        name.required("");
    } else {
        if name.len() > 253 {
            name.too_long(253);
        }
        for part in name.str().split('/') {
            let messages = names::dns1123_subdomain(part);
            if !messages.is_empty() {
                name.invalid_value(part, messages.join("; "));
            }
        }
    }
    if count.int() <= 0 {
        count.invalid("must be greater than zero");
    }
    pool.get("generation").non_negative();
}

fn device(device: Node<'_>) {
    const ATTRIBUTES_MAX: usize = 32;
    let (attributes, capacity) = (device.get("attributes"), device.get("capacity"));
    if attributes.len() + capacity.len() > ATTRIBUTES_MAX {
        device.invalid(format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"));
    }
    for (name, value) in attributes.entries() {
        qualified(value, name);
        attribute(value);
    }
    for (name, value) in capacity.entries() {
        qualified(value, name);
    }
    for taint in device.get("taints").items() {
        labels::name(taint.get("key"));
        taint.get("effect").need_one_of(&["NoExecute", "NoSchedule", "None"]);
    }
}

/// An identifier, with a domain before it where it is another's.
fn qualified(at: Node<'_>, name: &str) {
    let (domain, id) = name.split_once('/').map_or((None, name), |(d, i)| (Some(d), i));
    if let Some(domain) = domain {
        for message in names::dns1123_subdomain(domain) {
            at.invalid_value(name, message);
        }
    }
    if id.is_empty() {
        at.required("the name must not be empty");
    } else if id.len() > 32 {
        at.too_long(32);
    } else if !cel::is_identifier(id) {
        at.invalid_value(name, "must be a valid C identifier");
    }
}

fn attribute(value: Node<'_>) {
    let kinds = ["int", "bool", "string", "version"];
    let count = kinds.iter().filter(|k| value.get(k).is_set()).count();
    if count != 1 {
        value.invalid("exactly one value must be specified");
        return;
    }
    let text = value.get("string");
    if text.len() > STRING_MAX {
        text.too_long(STRING_MAX);
    }
    let version = value.get("version");
    if version.len() > STRING_MAX {
        version.too_long(STRING_MAX);
    }
}
