//! Deployments, replica sets, daemon sets, stateful sets, replication controllers, pod templates, controller revisions.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{self, each, object, omit_zero, set, set_empty};
use crate::kinds::volume_claim;
use crate::node::Node;
use crate::rules::{labels, meta, number, template};
use crate::strategy::Kind;
use crate::warnings;

pub const DEPLOYMENT: Kind = Kind {
    group: "apps",
    resource: "deployments",
    default: default_deployment,
    validate: deployment,
    warnings: named_workload,
    transition: selector_is_fixed,
    status: deployment_status,
    generation: true,
    generation_of_annotations: true,
    ..Kind::PLAIN
};

pub const REPLICA_SET: Kind = Kind {
    group: "apps",
    resource: "replicasets",
    default: default_replica_set,
    validate: replica_set,
    warnings: named_workload,
    transition: selector_is_fixed,
    status: replica_status,
    generation: true,
    fields: |set| vec![("status.replicas", set["status"]["replicas"].as_i64().unwrap_or(0).to_string())],
    ..Kind::PLAIN
};

pub const REPLICATION_CONTROLLER: Kind = Kind {
    group: "",
    resource: "replicationcontrollers",
    default: default_replication_controller,
    validate: replication_controller,
    warnings: named_workload,
    status: replica_status,
    generation: true,
    fields: |set| vec![("status.replicas", set["status"]["replicas"].as_i64().unwrap_or(0).to_string())],
    ..Kind::PLAIN
};

pub const DAEMON_SET: Kind = Kind {
    group: "apps",
    resource: "daemonsets",
    default: default_daemon_set,
    create: |set| template_generation(set, 1),
    update: update_daemon_set,
    validate: daemon_set,
    warnings: warnings::workload,
    transition: selector_is_fixed,
    status: daemon_set_status,
    generation: true,
    ..Kind::PLAIN
};

pub const STATEFUL_SET: Kind = Kind {
    group: "apps",
    resource: "statefulsets",
    default: default_stateful_set,
    validate: stateful_set,
    creation: |root| root.get("spec").get("volumeClaimTemplates").items().for_each(volume_claim::template),
    warnings: |root, old| {
        warnings::workload(root, old);
        for claim in root.get("spec").get("volumeClaimTemplates").items() {
            warnings::claim_spec(claim.get("spec"));
        }
        let limit = root.get("spec").get("revisionHistoryLimit");
        if limit.int() < 0 {
            limit.warn("a negative value retains all historical revisions; a value >= 0 is recommended");
        }
    },
    transition: stateful_set_update,
    status: replica_status,
    generation: true,
    ..Kind::PLAIN
};

pub const POD_TEMPLATE: Kind = Kind {
    group: "",
    resource: "podtemplates",
    default: defaults::pod_template,
    validate: |root| template::template(root.get("template")),
    warnings: |root, old| {
        if warnings::is_new_generation(root, old) {
            warnings::template(root.get("template"));
        }
    },
    generation: true,
    ..Kind::PLAIN
};

pub const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    resource: "controllerrevisions",
    validate: |root| {
        root.get("revision").non_negative();
        if !root.get("data").is_set() {
            root.get("data").required("data is mandatory");
        }
    },
    transition: |root, old| root.get("data").immutable(&old["data"]),
    ..Kind::PLAIN
};

fn named_workload(root: Node<'_>, old: Option<&Value>) {
    if old.is_none() {
        warnings::name_of_pods(root);
    }
    warnings::workload(root, old);
}

fn rolling(strategy: &mut Value, surge: Value, unavailable: Value) {
    set_empty(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        set(rolling, "maxUnavailable", unavailable);
        set(rolling, "maxSurge", surge);
    }
}

fn default_deployment(deployment: &mut Value) {
    let spec = object(deployment, "spec");
    set(spec, "replicas", 1);
    rolling(object(spec, "strategy"), json!("25%"), json!("25%"));
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    omit_zero(spec, &["paused", "minReadySeconds"]);
    defaults::pod_template(spec);
}

fn default_replica_set(set_: &mut Value) {
    let spec = object(set_, "spec");
    set(spec, "replicas", 1);
    defaults::pod_template(spec);
}

/// An old kind: what it left out is read off its template.
fn default_replication_controller(controller: &mut Value) {
    let own = object(controller, "spec");
    set(own, "replicas", 1);
    if own["template"].is_null() {
        return;
    }
    let labels = own["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        if own["selector"].as_object().is_none_or(|s| s.is_empty()) {
            own["selector"] = labels.clone();
        }
        let metadata = object(controller, "metadata");
        if metadata["labels"].as_object().is_none_or(|s| s.is_empty()) {
            metadata["labels"] = labels;
        }
    }
    defaults::pod_template(object(controller, "spec"));
}

fn default_daemon_set(set_: &mut Value) {
    let spec = object(set_, "spec");
    rolling(object(spec, "updateStrategy"), json!(0), json!(1));
    set(spec, "revisionHistoryLimit", 10);
    defaults::pod_template(spec);
}

fn default_stateful_set(set_: &mut Value) {
    let spec = object(set_, "spec");
    set_empty(spec, "podManagementPolicy", "OrderedReady");
    let strategy = object(spec, "updateStrategy");
    set_empty(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        set(object(strategy, "rollingUpdate"), "partition", 0);
    }
    let retention = object(spec, "persistentVolumeClaimRetentionPolicy");
    set_empty(retention, "whenDeleted", "Retain");
    set_empty(retention, "whenScaled", "Retain");
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |claim| {
        set_empty(claim, "kind", "PersistentVolumeClaim");
        set_empty(claim, "apiVersion", "v1");
        volume_claim::default(claim);
    });
    defaults::pod_template(spec);
}

/// An annotation that counts the generations of the template, for clients of an old version of the API.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &mut Value, generation: i64) {
    object(object(set, "metadata"), "annotations")[TEMPLATE_GENERATION] = generation.to_string().into();
}

fn update_daemon_set(set: &mut Value, old: &Value) {
    let before: i64 =
        old["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|g| g.parse().ok()).unwrap_or(0);
    let changed = set["spec"]["template"] != old["spec"]["template"];
    template_generation(set, before + i64::from(changed));
}

fn selector(selector: Node<'_>) {
    if !selector.is_set() {
        selector.required("");
        return;
    }
    labels::selector(selector);
    if labels::is_empty(selector.value) {
        selector.invalid("empty selector is invalid");
    }
}

/// The template, if the selector can be read at all; it must select the template.
fn selected_template(spec: Node<'_>) {
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if !labels::is_valid(selector.value) {
        selector.invalid("invalid label selector");
        return;
    }
    template::selected(template, selector.value);
    template::template(template);
    template::runs_forever(template);
}

fn deployment(root: Node<'_>) {
    let spec = root.get("spec");
    spec.get("replicas").non_negative();
    selector(spec.get("selector"));
    selected_template(spec);
    strategy(spec.get("strategy"));
    spec.get("minReadySeconds").non_negative();
    spec.get("revisionHistoryLimit").non_negative();
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline.is_set() {
        deadline.non_negative();
        if deadline.int() <= spec.get("minReadySeconds").int() {
            deadline.invalid("must be greater than minReadySeconds");
        }
    }
}

fn strategy(strategy: Node<'_>) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").str() {
        "Recreate" => {
            if rolling.is_set() {
                rolling.forbidden("may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            let (surge, unavailable) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
            number::int_or_percent(unavailable);
            number::int_or_percent(surge);
            if number::int_or_percent_value(unavailable) == 0 && number::int_or_percent_value(surge) == 0 {
                unavailable.invalid("may not be 0 when `maxSurge` is 0");
            }
            number::at_most_all(unavailable);
        }
        _ => strategy.get("type").not_supported(&["Recreate", "RollingUpdate"]),
    }
}

fn replica_set(root: Node<'_>) {
    let spec = root.get("spec");
    spec.get("replicas").non_negative();
    spec.get("minReadySeconds").non_negative();
    selector(spec.get("selector"));
    selected_template(spec);
}

fn replication_controller(root: Node<'_>) {
    let spec = root.get("spec");
    spec.get("minReadySeconds").non_negative();
    spec.get("replicas").non_negative();
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if selector.is_empty() {
        selector.required("");
    }
    if !template.is_set() {
        template.required("");
        return;
    }
    if !selector.is_empty() {
        template::selected(template, &json!({"matchLabels": selector.value}));
    }
    template::template(template);
    template::runs_forever(template);
}

fn daemon_set(root: Node<'_>) {
    let spec = root.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    labels::selector(selector);
    if labels::is_valid(selector.value) {
        template::selected(template, selector.value);
    }
    if selector.is_set() && labels::is_empty(selector.value) {
        selector.invalid("empty selector is invalid for daemonset");
    }
    template::template(template);
    template::runs_forever(template);
    spec.get("minReadySeconds").non_negative();
    daemon_strategy(spec.get("updateStrategy"));
    spec.get("revisionHistoryLimit").non_negative();
}

fn daemon_strategy(strategy: Node<'_>) {
    match strategy.get("type").str() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = strategy.get("rollingUpdate");
            if !rolling.is_set() {
                rolling.required("");
                return;
            }
            daemon_rolling(rolling);
        }
        _ => strategy.not_supported(&["RollingUpdate", "OnDelete"]),
    }
}

/// Exactly one of the two numbers is other than zero.
fn daemon_rolling(rolling: Node<'_>) {
    let (surge, unavailable) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
    number::int_or_percent(unavailable);
    number::int_or_percent(surge);
    number::at_most_all(unavailable);
    number::at_most_all(surge);
    let has = |n: Node<'_>| number::int_or_percent_value(n) != 0;
    if has(unavailable) && has(surge) {
        surge.invalid("may not be set when maxUnavailable is non-zero");
    } else if !has(unavailable) && !has(surge) {
        unavailable.required("cannot be 0 when maxSurge is 0");
    }
}

fn stateful_set(root: Node<'_>) {
    let spec = root.get("spec");
    management(spec.get("podManagementPolicy"));
    stateful_strategy(spec.get("updateStrategy"));
    for field in ["whenDeleted", "whenScaled"] {
        spec.get("persistentVolumeClaimRetentionPolicy").get(field).one_of(&["Delete", "Retain"]);
    }
    spec.get("replicas").non_negative();
    spec.get("minReadySeconds").non_negative();
    spec.get("ordinals").get("start").non_negative();
    selector(spec.get("selector"));
    stateful_template(spec);
    spec.get("serviceName").check_if_set(names::dns1123_label);
    spec.get("revisionHistoryLimit").non_negative();
}

fn management(policy: Node<'_>) {
    if policy.is_empty() {
        policy.required("");
    } else if !matches!(policy.str(), "OrderedReady" | "Parallel") {
        policy.invalid("must be 'OrderedReady' or 'Parallel'");
    }
}

fn stateful_strategy(strategy: Node<'_>) {
    let (kind, rolling) = (strategy.get("type"), strategy.get("rollingUpdate"));
    match kind.str() {
        "" => strategy.required(""),
        "OnDelete" => {
            if rolling.is_set() {
                rolling.invalid("only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            rolling.get("partition").non_negative();
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                number::int_or_percent(unavailable);
                if number::int_or_percent_value(unavailable) == 0 {
                    unavailable.invalid("cannot be 0");
                }
                number::at_most_all(unavailable);
            }
        }
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// The pods' template is checked with the volumes that the claims' templates will become.
fn stateful_template(spec: Node<'_>) {
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if !labels::is_valid(selector.value) {
        selector.invalid("invalid label selector");
        return;
    }
    let with_claims = with_claim_volumes(spec.value);
    let errors = crate::node::collect(&with_claims, |root| {
        let template = root.get("spec").get("template");
        template::selected(template, selector.value);
        template::template(template);
    });
    template.absorb(errors);
    meta::labels(template.get("labels").with(template.get("metadata").get("labels").value));
    meta::annotations(template.get("annotations").with(template.get("metadata").get("annotations").value));
    template::runs_forever(template);
}

fn with_claim_volumes(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let claims = spec["volumeClaimTemplates"].as_array().cloned().unwrap_or_default();
    let names: Vec<Value> = claims.iter().map(|c| c["metadata"]["name"].clone()).collect();
    if template.is_object() {
        let pod = object(&mut template, "spec");
        let own = pod["volumes"].as_array().cloned().unwrap_or_default();
        let from_claims = names.iter().map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}}));
        let kept = own.into_iter().filter(|v| !names.contains(&v["name"]));
        let volumes: Vec<Value> = from_claims.chain(kept).collect();
        if !volumes.is_empty() {
            pod["volumes"] = volumes.into();
        }
    }
    json!({"spec": {"template": template}})
}

fn selector_is_fixed(root: Node<'_>, old: &Value) {
    root.get("spec").get("selector").immutable(&old["spec"]["selector"]);
}

fn stateful_set_update(root: Node<'_>, old: &Value) {
    const MAY: [&str; 8] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "status",
    ];
    let spec = root.get("spec");
    let fixed = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.retain(|k, v| !MAY.contains(&k.as_str()) && !v.is_null());
        }
        v
    };
    if fixed(spec.value) != fixed(&old["spec"]) {
        spec.forbidden("updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
    }
}

fn counts(status: Node<'_>, fields: &[&'static str]) {
    for field in fields {
        status.get(field).non_negative();
    }
}

fn at_most(status: Node<'_>, field: &'static str, other: &'static str) {
    if status.get(field).int() > status.get(other).int() {
        status.get(field).invalid(format!("cannot be greater than status.{other}"));
    }
}

fn deployment_status(root: Node<'_>, old: &Value) {
    let status = root.get("status");
    counts(
        status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "collisionCount",
            "terminatingReplicas",
        ],
    );
    for field in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        at_most(status, field, "replicas");
    }
    at_most(status, "availableReplicas", "readyReplicas");
    let before = &old["status"]["collisionCount"];
    if status.get("collisionCount").int() < before.as_i64().unwrap_or(0) {
        status.get("collisionCount").invalid("cannot be decremented");
    }
}

fn replica_status(root: Node<'_>, _old: &Value) {
    let status = root.get("status");
    counts(
        status,
        &[
            "observedGeneration",
            "replicas",
            "fullyLabeledReplicas",
            "currentReplicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
        ],
    );
    for field in ["fullyLabeledReplicas", "currentReplicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        at_most(status, field, "replicas");
    }
    at_most(status, "availableReplicas", "readyReplicas");
}

fn daemon_set_status(root: Node<'_>, _old: &Value) {
    counts(
        root.get("status"),
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ],
    );
}
