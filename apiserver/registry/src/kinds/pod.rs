//! Pods.

use std::cmp::Ordering;

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{self, each};
use crate::kinds::pod_creation;
use crate::node::Node;
use crate::rules::{annotations, container, ip, pod, resources, tolerations};
use crate::strategy::{Kind, Looks};
use crate::warnings;

pub const KIND: Kind = Kind {
    group: "",
    resource: "pods",
    default: pod_creation::default,
    create: pod_creation::create,
    update,
    status_update,
    validate: pod::pod,
    creation: validate_create,
    // Updates come from components, which nobody reads warnings of.
    warnings: |root, old| {
        if old.is_none() {
            warnings::pod(root);
        }
    },
    transition,
    status,
    generation: true,
    grace,
    fields,
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

fn update(pod: &mut Value, _old: &Value) {
    if pod["status"]["qosClass"].is_null() && pod["status"].is_object() {
        pod["status"]["qosClass"] = qos_class(&pod["spec"]).into();
    }
}

fn status_update(pod: &mut Value, old: &Value) {
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        // A status may neither begin the deletion nor end it.
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            let before = &old["metadata"][field];
            if before.is_null() {
                metadata.remove(field);
            } else {
                metadata.insert(field.to_owned(), before.clone());
            }
        }
    }
    if !pod["status"].is_object() {
        return;
    }
    if pod["status"]["qosClass"].is_null() && !old["status"]["qosClass"].is_null() {
        pod["status"]["qosClass"] = old["status"]["qosClass"].clone();
    }
    keep_observed_generations(&mut pod["status"], &old["status"]);
}

/// Writers that know nothing of observed generations leave those that others wrote (KEP-5067).
fn keep_observed_generations(status: &mut Value, old: &Value) {
    const FIELD: &str = "observedGeneration";
    if let Some(generation) = old[FIELD].as_i64().filter(|g| *g != 0) {
        defaults::set_empty(status, FIELD, generation);
    }
    let mut known: Vec<&Value> = old["conditions"].as_array().into_iter().flatten().collect();
    each(status, "conditions", |condition| {
        let Some(at) = known.iter().position(|k| k["type"] == condition["type"]) else { return };
        if let Some(generation) = known.remove(at)[FIELD].as_i64().filter(|g| *g != 0) {
            defaults::set_empty(condition, FIELD, generation);
        }
    });
}

/// The quality of service that a pod's requests and limits of CPU and memory amount to.
pub fn qos_class(spec: &Value) -> &'static str {
    let (mut any, mut all_limited, mut equal) = (false, true, true);
    let pod_level = &spec["resources"];
    let own = [pod_level];
    let lists = ["containers", "initContainers"].map(|f| spec[f].as_array().map_or(&[][..], Vec::as_slice));
    let of_containers: Vec<&Value> = lists.into_iter().flatten().map(|c| &c["resources"]).collect();
    let of_pod = !pod_level["requests"].is_null() || !pod_level["limits"].is_null();
    let considered: &[&Value] = if of_pod { &own } else { &of_containers };
    for requirements in considered {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (&requirements["requests"][resource], &requirements["limits"][resource]);
            any |= positive(request) || positive(limit);
            all_limited &= positive(limit);
            equal &= !positive(request) || resources::parse(request) == resources::parse(limit);
        }
    }
    match (any, all_limited && equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn positive(amount: &Value) -> bool {
    resources::sign(amount) == Ordering::Greater
}

/// Ephemeral containers come later, through their own subresource; a pod that is held back has no node.
fn validate_create(root: Node<'_>) {
    let spec = root.get("spec");
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden("cannot be set on create");
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        spec.get("nodeName").forbidden("cannot be set until all schedulingGates have been cleared");
    }
    annotations::agree(root.get("metadata").get("annotations"), spec);
}

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A pod's spec is fixed, but for images, the deadline, added tolerations, and what gates hold back.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, old_spec) = (root.get("spec"), &old["spec"]);
    annotation_update(root, old);
    for list in ["containers", "initContainers"] {
        let containers = spec.get(list);
        if containers.len() != old_spec[list].as_array().map_or(0, Vec::len) {
            containers.forbidden("pod updates may not add or remove containers");
            return;
        }
        // Looked at once more.
        for image in containers.items().map(|c| c.get("image")) {
            image.need();
            container::trimmed_image(image);
        }
    }
    if !deadline(spec.get("activeDeadlineSeconds"), &old_spec["activeDeadlineSeconds"]) {
        return;
    }
    tolerations(spec.get("tolerations"), &old_spec["tolerations"]);
    gates(spec.get("schedulingGates"), &old_spec["schedulingGates"]);
    let mut comparable = spec.value.clone();
    for list in ["containers", "initContainers"] {
        keep_images(&mut comparable[list], &old_spec[list]);
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(&mut comparable, field, &old_spec[field]);
    }
    if old_spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0)
        && comparable["terminationGracePeriodSeconds"] == 1
    {
        restore(&mut comparable, "terminationGracePeriodSeconds", &old_spec["terminationGracePeriodSeconds"]);
    }
    if old_spec["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        narrowed(spec, old_spec);
        restore(&mut comparable, "nodeSelector", &old_spec["nodeSelector"]);
        let mut affinity = comparable["affinity"].take();
        if affinity.is_object() || !old_spec["affinity"]["nodeAffinity"].is_null() {
            restore(object_in(&mut affinity), "nodeAffinity", &old_spec["affinity"]["nodeAffinity"]);
        }
        if old_spec["affinity"].is_null() && affinity == json!({}) {
            affinity = Value::Null;
        }
        restore(&mut comparable, "affinity", &affinity);
    }
    if !same(&comparable, old_spec) {
        spec.forbidden(FIXED);
    }
}

fn annotation_update(root: Node<'_>, old: &Value) {
    let annotations = root.get("metadata").get("annotations");
    annotations::update(annotations, &old["metadata"]["annotations"]);
    annotations::of_pod(annotations, root.get("spec"));
}

/// The value as an object, made where there is none.
fn object_in(value: &mut Value) -> &mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    value
}

fn restore(spec: &mut Value, field: &str, value: &Value) {
    if let Some(map) = spec.as_object_mut() {
        if value.is_null() {
            map.remove(field);
        } else {
            map.insert(field.to_owned(), value.clone());
        }
    }
}

fn keep_images(containers: &mut Value, old: &Value) {
    for (i, container) in containers.as_array_mut().into_iter().flatten().enumerate() {
        restore(container, "image", &old[i]["image"]);
    }
}

/// Equal, where an empty list and an absent one are.
fn same(a: &Value, b: &Value) -> bool {
    let blank = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| y.get(k).map_or_else(|| blank(v), |w| same(v, w)))
                && y.iter().all(|(k, w)| x.contains_key(k) || blank(w))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(v, w)| same(v, w)),
        _ => a == b || (blank(a) && blank(b)),
    }
}

/// A deadline may come, or come closer. False when nothing else is to be said.
fn deadline(new: Node<'_>, old: &Value) -> bool {
    match (new.opt_int(), old.as_i64()) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            new.invalid("must be between 0 and 2147483647, inclusive");
            return false;
        }
        (Some(n), Some(o)) if n > o => {
            new.invalid("must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => new.invalid("must not update from a positive integer to nil value"),
        _ => {}
    }
    true
}

fn tolerations(new: Node<'_>, old: &Value) {
    let mut items = new.value.as_array().cloned().unwrap_or_default();
    for item in items.iter_mut() {
        restore(item, "tolerationSeconds", &Value::Null);
    }
    let kept = old.as_array().into_iter().flatten().all(|toleration| {
        let mut toleration = toleration.clone();
        restore(&mut toleration, "tolerationSeconds", &Value::Null);
        items.contains(&toleration)
    });
    if kept {
        tolerations::tolerations(new);
    } else {
        new.forbidden("existing toleration can not be modified except its tolerationSeconds");
    }
}

fn gates(new: Node<'_>, old: &Value) {
    let known = old.as_array().map_or(&[][..], Vec::as_slice);
    for gate in new.items() {
        if !known.iter().any(|k| k["name"] == gate.value["name"]) {
            gate.get("name").forbidden("only deletion is allowed, but found new scheduling gate");
        }
    }
}

/// While gated, a pod's node selector and the nodes that its affinity requires may only become narrower.
fn narrowed(spec: Node<'_>, old: &Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let selector = spec.get("nodeSelector");
    let kept = old["nodeSelector"].as_object().into_iter().flatten().all(|(k, v)| selector.value.get(k) == Some(v));
    if !kept {
        selector.invalid("only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
    let terms = spec.get("affinity").get("nodeAffinity").get(REQUIRED).get("nodeSelectorTerms");
    let old_terms = old["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].as_array();
    let old_terms = old_terms.map_or(&[][..], Vec::as_slice);
    if !old_terms.is_empty() && old_terms.len() != terms.len() {
        terms.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed");
        return;
    }
    for (term, before) in terms.items().zip(old_terms) {
        if !only_adds(term, before) {
            term.invalid("only additions are allowed (no mutations or deletions)");
        }
    }
}

/// Whether a term still begins with all that it was. An empty one selects nothing and stays so.
fn only_adds(term: Node<'_>, before: &Value) -> bool {
    let requirements = |v: &Value, field: &str| v[field].as_array().cloned().unwrap_or_default();
    let fields = ["matchExpressions", "matchFields"];
    let empty = |v: &Value| fields.iter().all(|f| requirements(v, f).is_empty());
    let kept = fields.iter().all(|f| requirements(term.value, f).starts_with(&requirements(before, f)));
    kept && (!empty(before) || empty(term.value))
}

fn status(root: Node<'_>, old: &Value) {
    let (status, before) = (root.get("status"), &old["status"]);
    annotation_update(root, old);
    conditions(root);
    let (nominated, node) = (status.get("nominatedNodeName"), root.get("spec").get("nodeName"));
    if node.str() != old["spec"]["nodeName"].as_str().unwrap_or("") {
        status.get("nodeName").forbidden("may not be changed directly");
    }
    if nominated.value != &before["nominatedNodeName"] {
        nominated.check_if_set(names::dns1123_subdomain);
    }
    status.get("qosClass").immutable(&before["qosClass"]);
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("");
    for (field, policy) in
        [("containerStatuses", policy), ("initContainerStatuses", policy), ("ephemeralContainerStatuses", "Never")]
    {
        no_resurrection(status.get(field), &before[field], policy, old);
    }
    claim_statuses(status.get("resourceClaimStatuses"), root.get("spec").get("resourceClaims"));
    addresses(status);
}

/// Conditions of one's own have qualified names. Kubernetes reports them below the metadata.
fn conditions(root: Node<'_>) {
    let at = root.get("metadata").get("conditions").with(root.get("status").get("conditions").value);
    for condition in at.items() {
        if !matches!(condition.get("type").str(), "PodScheduled" | "Ready" | "Initialized") {
            condition.get("Type").with(condition.get("type").value).check(names::qualified_name);
        }
    }
}

/// A container that ended does not run again where it may not.
fn no_resurrection(statuses: Node<'_>, old: &Value, policy: &str, old_pod: &Value) {
    if policy == "Always" {
        return;
    }
    let sidecar = |name: &Value| {
        let containers = old_pod["spec"]["initContainers"].as_array().into_iter().flatten();
        containers.clone().any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
    };
    for (i, before) in old.as_array().into_iter().flatten().enumerate() {
        let ended = &before["state"]["terminated"];
        let failed = ended["exitCode"].as_i64().unwrap_or(0) != 0;
        if !ended.is_object() || failed && policy == "OnFailure" || sidecar(&before["name"]) {
            continue;
        }
        for status in statuses.items().filter(|s| s.value["name"] == before["name"]) {
            if !status.get("state").get("terminated").is_set() {
                statuses.index(i).get("state").forbidden("may not be transitioned to non-terminated state");
            }
        }
    }
}

fn claim_statuses(statuses: Node<'_>, claims: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for status in statuses.items() {
        let (name, claim) = (status.get("name"), status.get("resourceClaimName"));
        if !claims.items().any(|c| c.get("name").str() == name.str()) {
            name.invalid("must match the name of an entry in `spec.resourceClaims`");
        }
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        if claim.is_set() {
            for message in names::dns1123_subdomain(claim.str()) {
                name.invalid_value(claim.str(), message);
            }
        }
    }
}

/// The addresses of the pod and of its node: at most one of each family.
fn addresses(status: Node<'_>) {
    let host = status.get("hostIPs");
    if !host.is_empty() && host.index(0).get("ip").str() != status.get("hostIP").str() {
        host.index(0).get("ip").invalid("must be equal to `hostIP`");
    }
    for list in [status.get("podIPs"), host] {
        let mut seen: Vec<&str> = Vec::new();
        for address in list.items() {
            let text = address.get("ip");
            ip::address(address.with(text.value));
            if seen.contains(&text.str()) {
                address.duplicate();
            }
            seen.push(text.str());
        }
        let parsed: Vec<_> = seen.iter().filter_map(|text| ip::parse_legacy(text)).collect();
        let dual = parsed.iter().any(|a| a.is_ipv4()) && parsed.iter().any(|a| a.is_ipv6());
        if list.len() > 1 && (!dual || list.len() > 2) {
            list.invalid("may specify no more than one IP for each IP family");
        }
    }
}

/// None of it for a pod that no node has, or that has ended.
fn grace(pod: &Value, requested: Option<i64>) -> Option<i64> {
    let period = requested.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if unscheduled || ended { Some(0) } else { Some(if period < 0 { 1 } else { period }) }
}

fn fields(pod: &Value) -> Vec<(&'static str, String)> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let (spec, status) = (&pod["spec"], &pod["status"]);
    vec![
        ("spec.nodeName", text(&spec["nodeName"])),
        ("spec.restartPolicy", text(&spec["restartPolicy"])),
        ("spec.schedulerName", text(&spec["schedulerName"])),
        ("spec.serviceAccountName", text(&spec["serviceAccountName"])),
        ("spec.hostNetwork", spec["hostNetwork"].as_bool().unwrap_or(false).to_string()),
        ("status.phase", text(&status["phase"])),
        ("status.podIP", text(&status["podIP"])),
        ("status.nominatedNodeName", text(&status["nominatedNodeName"])),
    ]
}
