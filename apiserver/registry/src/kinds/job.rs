//! Jobs and cron jobs.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{self, object, set, set_empty};
use crate::node::Node;
use crate::rules::{labels, meta, template};
use crate::strategy::{Kind, Looks};
use crate::warnings;

pub const JOB: Kind = Kind {
    group: "batch",
    resource: "jobs",
    default: |job| default_spec(job),
    create: generate_selector,
    validate: job,
    warnings: |root, old| {
        if old.is_none() {
            warnings::name_of_pods(root);
        }
        if warnings::is_new_generation(root, old) {
            warn_of_spec(root.get("spec"));
        }
    },
    transition: job_update,
    generation: true,
    fields: |job| vec![("status.successful", job["status"]["succeeded"].as_i64().unwrap_or(0).to_string())],
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

pub const CRON_JOB: Kind = Kind {
    group: "batch",
    resource: "cronjobs",
    name: |name| {
        let mut messages = names::dns1123_subdomain(name);
        if name.len() > CRON_NAME_MAX {
            messages.push(format!("must be no more than {CRON_NAME_MAX} characters"));
        }
        messages
    },
    default: default_cron,
    validate: |root| cron_job(root.get("spec")),
    warnings: |root, old| {
        if old.is_none() {
            warnings::name_of_pods(root);
        }
        if warnings::is_new_generation(root, old) {
            warn_of_spec(root.get("spec").get("jobTemplate").get("spec"));
        }
    },
    generation: true,
    ..Kind::PLAIN
};

/// Indexes that are no longer all remembered, and what the template deserves.
fn warn_of_spec(spec: Node<'_>) {
    const MANY_COMPLETIONS: i64 = 100_000;
    const MANY_PODS: i64 = 10_000;
    let indexed = spec.get("completionMode").str() == "Indexed";
    if indexed && spec.get("completions").int() > MANY_COMPLETIONS && spec.get("parallelism").int() > MANY_PODS {
        spec.remark(
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
        );
    }
    warnings::template(spec.get("template"));
}

/// A job's name leaves room for a suffix of eleven characters.
const CRON_NAME_MAX: usize = 52;
const PARALLELISM_MAX: i64 = 100_000;
const JOB_NAME: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const CONTROLLER_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

fn default_spec(job: &mut Value) {
    let spec = object(job, "spec");
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let per_index = !spec["backoffLimitPerIndex"].is_null();
    set(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let replacement = if spec["podFailurePolicy"].is_object() { "Failed" } else { "TerminatingOrFailed" };
    set(spec, "podReplacementPolicy", replacement);
    failure_policy(spec);
    template_defaults(spec);
    labels_of_template(job);
}

fn failure_policy(spec: &mut Value) {
    if let Some(policy) = defaults::at(spec, &["podFailurePolicy"]) {
        defaults::each(policy, "rules", |rule| {
            defaults::each(rule, "onPodConditions", |condition| set_empty(condition, "status", "True"));
        });
    }
}

/// The pod template's defaults but for the restart policy, which a job must state.
fn template_defaults(spec: &mut Value) {
    let stated = spec["template"]["spec"]["restartPolicy"].as_str().is_some_and(|p| !p.is_empty());
    defaults::pod_template(spec);
    if !stated && let Some(pod) = spec["template"]["spec"].as_object_mut() {
        pod.remove("restartPolicy");
    }
}

fn default_cron(cron: &mut Value) {
    let spec = object(cron, "spec");
    set_empty(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    let job = object(object(spec, "jobTemplate"), "spec");
    failure_policy(job);
    template_defaults(job);
}

/// Unless the user brings a selector, the job's pods are told by the job's uid. Labels that are there already are checked, not
/// replaced.
fn generate_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] != true {
        let text = |field: &str| Value::from(job["metadata"][field].as_str().unwrap_or(""));
        let (name, uid) = (text("name"), text("uid"));
        let spec = object(job, "spec");
        let labels = object(object(object(spec, "template"), "metadata"), "labels");
        for (keys, value) in [(JOB_NAME, &name), (CONTROLLER_UID, &uid)] {
            keys.iter().for_each(|key| set(labels, key, value.clone()));
        }
        set(object(object(spec, "selector"), "matchLabels"), CONTROLLER_UID[1], uid);
    }
    // A job without labels carries its pods'. A name that cannot be a label is reported at the template only.
    let name = job["metadata"]["name"].as_str().unwrap_or("");
    if names::label_value(name).is_empty() {
        labels_of_template(job);
    }
}

fn labels_of_template(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    let metadata = object(job, "metadata");
    if metadata["labels"].as_object().is_none_or(|l| l.is_empty()) && labels.as_object().is_some_and(|l| !l.is_empty())
    {
        metadata["labels"] = labels;
    }
}

fn job(root: Node<'_>) {
    let spec = root.get("spec");
    if !spec.get("manualSelector").bool() && spec.get("selector").is_set() {
        generated(root, spec);
    }
    selected_spec(spec);
    index_name(root);
}

/// The spec of a job, whose selector must select its template. An absent one selects nothing.
fn selected_spec(spec: Node<'_>) {
    let selector = spec.get("selector");
    if selector.is_set() {
        labels::selector(selector);
    } else {
        selector.required("");
    }
    if labels::is_valid(selector.value) {
        template::selected(spec.get("template"), selector.value);
    }
    job_spec(spec);
}

/// What was generated may not have been brought by the user in another form.
fn generated(root: Node<'_>, spec: Node<'_>) {
    let (uid, name) = (root.get("metadata").get("uid"), root.get("metadata").get("name"));
    let labels = spec.get("template").get("metadata").get("labels");
    let mut expected = json!({});
    if uid.is_empty() {
        uid.required("");
    }
    for (keys, value) in [(CONTROLLER_UID, uid.str()), (JOB_NAME, name.str())] {
        for key in keys {
            let label = labels.entry(key);
            if !label.is_set() {
                label.required(&format!("must be '{value}'"));
            } else if label.str() != value {
                label.invalid(format!("must be '{value}'"));
            }
            expected[key] = value.into();
        }
    }
    let selector = spec.get("selector");
    if labels::is_valid(selector.value) && !labels::matches(selector.value, &expected) {
        selector.invalid("`selector` not auto-generated");
    }
}

/// An indexed job's pods are named after the job and the largest index.
fn index_name(root: Node<'_>) {
    let spec = root.get("spec");
    if spec.get("completionMode").str() != "Indexed" {
        return;
    }
    let Some(completions) = spec.get("completions").opt_int().filter(|c| *c > 0) else { return };
    let name = root.get("metadata").get("name");
    let longest = format!("{}-{}", name.str(), completions - 1);
    if !name.is_empty() {
        for message in names::dns1123_label(&longest) {
            name.invalid(format!("will not able to create pod with invalid DNS label: {longest}: {message}"));
        }
    }
}

fn job_spec(spec: Node<'_>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.get(field).non_negative();
    }
    mode(spec);
    per_index(spec);
    if spec.get("podFailurePolicy").is_set() {
        pod_failure_policy(spec);
    }
    success_policy(spec);
    replacement(spec);
    managed_by(spec.get("managedBy"));
    let template = spec.get("template");
    template::template(template);
    let policy = template.get("spec").get("restartPolicy");
    if policy.str() == "Always" || !policy.is_empty() && !matches!(policy.str(), "OnFailure" | "Never") {
        policy.not_supported(&["OnFailure", "Never"]);
    }
    if spec.get("podFailurePolicy").is_set() && matches!(policy.str(), "OnFailure" | "Always") {
        policy.invalid("only \"Never\" is supported when podFailurePolicy is specified");
    }
}

fn mode(spec: Node<'_>) {
    let mode = spec.get("completionMode");
    mode.one_of_if_set(&["NonIndexed", "Indexed"]);
    if mode.str() != "Indexed" {
        return;
    }
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    if !completions.is_set() {
        completions.required("when completion mode is Indexed");
    }
    if parallelism.int() > PARALLELISM_MAX {
        parallelism.invalid(format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed"));
    }
}

fn per_index(spec: Node<'_>) {
    let (limit, failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if matches!(spec.get("completionMode").value.as_str(), None | Some("NonIndexed")) {
        for field in [limit, failed].into_iter().filter(|field| field.is_set()) {
            field.invalid("requires indexed completion mode");
        }
    }
    if !failed.is_set() {
        if limit.is_set() && spec.get("completions").int() > PARALLELISM_MAX {
            failed.required(&format!("must be specified when completions is above {PARALLELISM_MAX}"));
        }
        return;
    }
    if !limit.is_set() {
        limit.required("when maxFailedIndexes is specified");
    }
    if let Some(completions) = spec.get("completions").opt_int()
        && failed.int() > completions
    {
        failed.invalid(format!("must be less than or equal to {completions}"));
    }
}

fn replacement(spec: Node<'_>) {
    let policy = spec.get("podReplacementPolicy");
    if !policy.is_set() {
        return;
    }
    if spec.get("podFailurePolicy").is_set() {
        policy.one_of(&["Failed"]);
    } else {
        policy.one_of(&["Failed", "TerminatingOrFailed"]);
    }
}

fn managed_by(manager: Node<'_>) {
    const MANAGER_MAX: usize = 63;
    if !manager.is_set() {
        return;
    }
    if !manager.str().contains('/') {
        manager.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    if manager.len() > MANAGER_MAX {
        manager.too_long(MANAGER_MAX);
    }
}

fn pod_failure_policy(spec: Node<'_>) {
    let rules = spec.get("podFailurePolicy").get("rules");
    rules.at_most(20);
    let containers: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|f| spec.get("template").get("spec").get(f).items())
        .map(|c| c.get("name").str())
        .collect();
    for rule in rules.items() {
        failure_rule(rule, spec, &containers);
    }
}

fn failure_rule(rule: Node<'_>, spec: Node<'_>, containers: &[&str]) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    let (action, codes, conditions) = (rule.get("action"), rule.get("onExitCodes"), rule.get("onPodConditions"));
    if action.is_empty() {
        action.required("valid values: Count, FailIndex, FailJob, Ignore");
    } else if action.str() == "FailIndex" && !spec.get("backoffLimitPerIndex").is_set() {
        action.invalid("requires the backoffLimitPerIndex to be set");
    } else {
        action.one_of(&ACTIONS);
    }
    if codes.is_set() {
        exit_codes(codes, containers);
    }
    conditions.at_most(20);
    for condition in conditions.items() {
        condition.get("type").check(names::qualified_name);
        condition.get("status").need_one_of(&["True", "False", "Unknown"]);
    }
    if codes.is_set() && !conditions.is_empty() {
        rule.invalid("specifying both OnExitCodes and OnPodConditions is not supported");
    }
    if !codes.is_set() && conditions.is_empty() {
        rule.invalid("specifying one of OnExitCodes and OnPodConditions is required");
    }
}

fn exit_codes(codes: Node<'_>, containers: &[&str]) {
    let (operator, name, values) = (codes.get("operator"), codes.get("containerName"), codes.get("values"));
    operator.need_one_of(&["In", "NotIn"]);
    if name.is_set() && !containers.contains(&name.str()) {
        name.invalid("must be one of the container or initContainer names in the pod template");
    }
    if values.is_empty() {
        values.invalid("at least one value is required");
    } else {
        values.at_most(255);
    }
    let mut ordered = true;
    let mut before: Option<i64> = None;
    let mut seen: Vec<i64> = Vec::new();
    for value in values.items() {
        if operator.str() == "In" && value.int() == 0 {
            value.invalid("must not be 0 for the In operator");
        }
        if seen.contains(&value.int()) {
            value.duplicate();
        }
        seen.push(value.int());
        ordered &= before.is_none_or(|b| b <= value.int());
        before = Some(value.int());
    }
    if !ordered {
        values.invalid("must be ordered");
    }
}

fn success_policy(spec: Node<'_>) {
    let policy = spec.get("successPolicy");
    if !policy.is_set() {
        return;
    }
    if spec.get("completionMode").str() != "Indexed" {
        policy.invalid("requires indexed completion mode");
        return;
    }
    let rules = policy.get("rules");
    if rules.is_empty() {
        rules.required("at least one rules must be specified when the successPolicy is specified");
    }
    rules.at_most(20);
    let completions = spec.get("completions").int();
    for rule in rules.items() {
        success_rule(rule, completions);
    }
}

fn success_rule(rule: Node<'_>, completions: i64) {
    let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
    if !count.is_set() && !indexes.is_set() {
        rule.required("at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if indexes.is_set() {
        match index_count(indexes.str(), completions) {
            Ok(n) => total = n,
            Err(detail) => indexes.invalid(format!("error parsing succeededIndexes: {detail}")),
        }
    }
    if !count.is_set() {
        return;
    }
    count.non_negative();
    if count.int() > completions {
        count.invalid(format!("must be less than or equal to {completions} (the number of specified completions)"));
    }
    if indexes.is_set() && count.int() > total {
        count.invalid(format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        ));
    }
}

/// How many indexes a list such as `0-2,5` names.
fn index_count(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last: Option<i64> = None;
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let parse = |s: &str| s.parse::<i64>().map_err(|_| format!("cannot convert {s:?} to an integer"));
        let (first, end) = match part.split_once('-') {
            Some((a, b)) => (parse(a)?, parse(b)?),
            None => (parse(part)?, parse(part)?),
        };
        if first >= completions || end >= completions {
            return Err("too large index for jobs with the given completions".to_owned());
        }
        if last.is_some_and(|l| l >= first) || first > end {
            return Err("non-increasing order".to_owned());
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn cron_job(spec: Node<'_>) {
    schedule(spec);
    spec.get("startingDeadlineSeconds").non_negative();
    spec.get("concurrencyPolicy").need_one_of(&["Allow", "Forbid", "Replace"]);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.get(field).non_negative();
    }
    let job = spec.get("jobTemplate").get("spec");
    if job.get("selector").is_set() {
        job.get("selector").invalid("`selector` will be auto-generated");
    }
    if job.get("manualSelector").bool() {
        job.get("manualSelector").not_supported(&["nil", "false"]);
    }
    let metadata = spec.get("jobTemplate").get("metadata");
    meta::labels(metadata.get("labels"));
    meta::annotations(metadata.get("annotations"));
    job_spec(job);
}

fn schedule(spec: Node<'_>) {
    let (schedule, zone) = (spec.get("schedule"), spec.get("timeZone"));
    if schedule.need() {
        if let Err(detail) = crate::rules::cron::check(schedule.str()) {
            schedule.invalid(detail);
        }
        if schedule.str().contains("TZ") && zone.is_set() {
            zone.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule");
        } else if schedule.str().contains("TZ") {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
    }
    if !zone.is_set() {
        return;
    }
    if zone.is_empty() {
        zone.invalid("timeZone must be nil or non-empty string");
    } else if zone.str().eq_ignore_ascii_case("local") {
        zone.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    } else if jiff::tz::TimeZone::get(zone.str()).is_err() {
        zone.invalid(format!("unknown time zone {}", zone.str()));
    }
}

/// A job's template is fixed once it has started, and so is what its bookkeeping depends on. Kubernetes looks at the spec once more.
fn job_update(root: Node<'_>, old: &Value) {
    let (spec, before) = (root.get("spec"), &old["spec"]);
    selected_spec(spec);
    completions(spec, before);
    for field in
        ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        spec.get(field).immutable(&before[field]);
    }
    let suspended = before["suspend"] == true && old["status"]["startTime"].is_null();
    template_update(spec.get("template"), &before["template"], suspended);
}

/// The number of pods of an indexed job may change together with how many run at once (KEP-3715).
fn completions(spec: Node<'_>, before: &Value) {
    let completions = spec.get("completions");
    if spec.get("completionMode").str() != "Indexed" {
        completions.immutable(&before["completions"]);
    } else if completions.is_set()
        && completions.value != &before["completions"]
        && completions.value != spec.get("parallelism").value
    {
        completions.invalid("can only be modified in tandem with spec.parallelism");
    }
}

/// Where and with how much its pods run may still change while a job has never been started (KEP-2926, KEP-5440).
fn template_update(template: Node<'_>, before: &Value, suspended: bool) {
    if !suspended {
        template.immutable(before);
        return;
    }
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(pod) = spec.as_object_mut() {
            for field in ["nodeSelector", "tolerations", "schedulingGates"] {
                pod.remove(field);
            }
        }
        if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
            affinity.remove("nodeAffinity");
        }
        if spec["affinity"] == json!({}) {
            spec["affinity"] = Value::Null;
        }
        for list in ["containers", "initContainers"] {
            defaults::each(&mut spec, list, |container| container["resources"] = json!({}));
        }
        spec
    };
    let spec = template.get("spec");
    if fixed(spec.value) != fixed(&before["spec"]) {
        spec.invalid("field is immutable");
    }
}
