//! Resource quotas and limit ranges.

use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use crate::defaults::{each, object};
use crate::node::Node;
use crate::rules::resources;
use crate::strategy::{Kind, Looks};

pub const RESOURCE_QUOTA: Kind = Kind {
    group: "",
    resource: "resourcequotas",
    create: |quota| quota["status"] = json!({}),
    validate: |root| quota(root.get("spec")),
    transition: |root, old| {
        let sorted = |v: &Value| {
            let mut list: Vec<String> = v.as_array().into_iter().flatten().map(Value::to_string).collect();
            list.sort();
            list
        };
        let scopes = root.get("spec").get("scopes");
        if sorted(scopes.value) != sorted(&old["spec"]["scopes"]) {
            scopes.invalid("field is immutable");
        }
    },
    status: |root, _old| {
        for field in ["hard", "used"] {
            for (resource, amount) in root.get("status").get(field).entries() {
                resources::quota_name(amount, resource);
                resources::quantity(amount, resource);
            }
        }
    },
    ..Kind::PLAIN
};

pub const LIMIT_RANGE: Kind = Kind {
    group: "",
    resource: "limitranges",
    default: default_limits,
    create: |range| {
        // Without a name it is called after its uid.
        let uid = range["metadata"]["uid"].clone();
        if range["metadata"]["name"].as_str().is_none_or(str::is_empty) && uid.is_string() {
            object(range, "metadata")["name"] = uid;
        }
    },
    validate: |root| limits(root.get("spec").get("limits")),
    looks: Looks { metadata_update: false, ..Looks::AS_NEW },
    ..Kind::PLAIN
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Resources that pods of a kind can be counted for.
const OF_PODS: [&str; 7] = ["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

fn quota(spec: Node<'_>) {
    for (resource, amount) in spec.get("hard").entries() {
        resources::quota_name(amount, resource);
        resources::quantity(amount, resource);
    }
    let hard = spec.get("hard");
    scopes(spec.get("scopes"), hard);
    scope_selector(spec.get("scopeSelector"), hard);
}

/// How many of the quota's standard resources cannot be counted for what a scope selects.
fn misfits(scope: &str, hard: Node<'_>) -> usize {
    let fits = |resource: &str| match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => OF_PODS.contains(&resource) || !SCOPES.contains(&scope),
    };
    hard.entries().filter(|(resource, _)| resources::is_quota_name(resource) && !fits(resource)).count()
}

const OPPOSITES: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

fn scopes(scopes: Node<'_>, hard: Node<'_>) {
    let listed: Vec<&str> = scopes.items().map(Node::str).collect();
    for scope in &listed {
        if !SCOPES.contains(scope) {
            scopes.invalid("unsupported scope");
        }
        (0..misfits(scope, hard)).for_each(|_| scopes.invalid("unsupported scope applied to resource"));
    }
    for (a, b) in OPPOSITES {
        if listed.contains(&a) && listed.contains(&b) {
            scopes.invalid("conflicting scopes");
        }
    }
}

/// Scopes as requirements. What is wrong with one is reported at the list.
fn scope_selector(selector: Node<'_>, hard: Node<'_>) {
    let list = selector.get("matchExpressions");
    let mut listed: Vec<&str> = Vec::new();
    for requirement in list.items() {
        let at = |field: &'static str| list.get(field).with(requirement.get(field).value);
        let (name, operator, values) = (at("scopeName"), at("operator"), at("values"));
        if !SCOPES.contains(&name.str()) {
            name.invalid("unsupported scope");
        }
        (0..misfits(name.str(), hard)).for_each(|_| list.invalid("unsupported scope applied to resource"));
        let has_values = matches!(name.str(), "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&name.str()) && !has_values && operator.str() != "Exists" {
            operator.invalid("must be 'Exists' for a scope that has no values");
        }
        match operator.str() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    values.required("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    values.invalid("must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector");
                }
            }
            _ => operator.invalid("not a valid selector operator"),
        }
        listed.push(name.str());
    }
    for (a, b) in OPPOSITES {
        if listed.contains(&a) && listed.contains(&b) {
            list.invalid("conflicting scopes");
        }
    }
}

/// What a range leaves out follows from what it says: defaults from maxima, requests from defaults and minima.
fn default_limits(range: &mut Value) {
    let Some(spec) = range.get_mut("spec") else { return };
    each(spec, "limits", |item| {
        if item["type"] != "Container" {
            return;
        }
        inherit(item, "max", "default");
        inherit(item, "default", "defaultRequest");
        inherit(item, "min", "defaultRequest");
    });
}

fn inherit(item: &mut Value, from: &str, to: &str) {
    let Some(source) = item[from].as_object().filter(|m| !m.is_empty()).cloned() else { return };
    let target = object(item, to);
    for (resource, amount) in source {
        crate::defaults::set(target, &resource, amount);
    }
}

fn limits(list: Node<'_>) {
    let mut types: Vec<&str> = Vec::new();
    for item in list.items() {
        let kind = item.get("type");
        limit_type(kind);
        if types.contains(&kind.str()) {
            kind.duplicate();
        }
        types.push(kind.str());
        limit(item);
    }
}

/// A standard word, or a qualified name.
fn limit_type(kind: Node<'_>) {
    let messages = apimachinery::names::qualified_name(kind.str());
    let well_formed = messages.is_empty();
    for message in messages {
        kind.invalid(message);
    }
    if well_formed && !kind.str().contains('/') && !matches!(kind.str(), "Pod" | "Container" | "PersistentVolumeClaim")
    {
        kind.invalid("must be a standard limit type or fully qualified");
    }
}

fn limit(item: Node<'_>) {
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"].map(|f| item.get(f));
    let [max, min, default, request, ratio] = lists;
    let mut resources: Vec<&str> = lists.iter().flat_map(|l| l.entries().map(|(k, _)| k)).collect();
    resources.sort_unstable();
    resources.dedup();
    for list in [max, min, ratio] {
        for (resource, amount) in list.entries() {
            limit_resource(amount, resource, item);
        }
    }
    if item.get("type").str() == "Pod" {
        for field in [default, request] {
            if !field.is_empty() {
                field.forbidden("may not be specified when `type` is 'Pod'");
            }
        }
    } else {
        for list in [default, request] {
            for (resource, amount) in list.entries() {
                limit_resource(amount, resource, item);
            }
        }
    }
    if item.get("type").str() == "PersistentVolumeClaim"
        && min.value.get("storage").is_none()
        && max.value.get("storage").is_none()
    {
        item.get("limits").required("either minimum or maximum storage value is required, but neither was provided");
    }
    for resource in resources {
        order(resource, max, min, default, request, ratio);
    }
}

fn limit_resource(node: Node<'_>, resource: &str, item: Node<'_>) {
    if matches!(item.get("type").str(), "Pod" | "Container") {
        resources::container_name(node, resource);
    } else {
        resources::name(node, resource);
    }
}

fn order(resource: &str, max: Node<'_>, min: Node<'_>, default: Node<'_>, request: Node<'_>, ratio: Node<'_>) {
    let amount = |list: Node<'_>| list.value.get(resource).and_then(resources::parse);
    let above = |a: Option<Quantity>, b: Option<Quantity>| matches!((a, b), (Some(a), Some(b)) if a > b);
    let (most, least, usual, asked, factor) =
        (amount(max), amount(min), amount(default), amount(request), amount(ratio));
    let tell = |list: Node<'_>, what: &str| list.entry(resource).invalid(format!("{what} for {resource}"));
    if above(least, most) {
        tell(min, "min value is greater than max value");
    }
    for (list, value, name) in [(request, asked, "default request"), (default, usual, "default")] {
        if above(least, value) {
            tell(list, &format!("min value is greater than {name} value"));
        }
        if above(value, most) {
            tell(list, &format!("{name} value is greater than max value"));
        }
    }
    if above(asked, usual) {
        tell(request, "default request value is greater than default limit value");
    }
    if let Some(factor) = factor {
        if factor < Quantity::new(1, factor.format()) {
            tell(ratio, "ratio is less than 1");
        }
        if let (Some(least), Some(most)) = (least, most)
            && factor.as_f64() > most.as_f64() / least.as_f64()
        {
            tell(ratio, "ratio is greater than max/min");
        }
    }
    if !resources::overcommits(resource) && usual.is_some() && asked.is_some() && usual != asked {
        tell(request, "default value must equal the default request");
    }
}
