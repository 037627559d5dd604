//! Workloads: what keeps pods running, and what runs them to an end.

use apimachinery::time::Moment;
use serde_json::{Value, json};

use super::format::{self, NONE, UNKNOWN, UNSET, list};
use super::{AGE, NAME, Printer, boolean, cells, count, integer, text, wide};

pub(super) const ALL: &[Printer] = &[
    Printer {
        group: "apps",
        resource: "deployments",
        columns: &[
            NAME,
            text("Ready"),
            text("Up-to-date"),
            text("Available"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        row: deployment,
    },
    Printer { group: "apps", resource: "replicasets", columns: REPLICAS, row: replicas },
    Printer { group: "", resource: "replicationcontrollers", columns: REPLICAS, row: replicas },
    Printer {
        group: "apps",
        resource: "statefulsets",
        columns: &[NAME, text("Ready"), AGE, wide("Containers"), wide("Images")],
        row: |set, now| {
            let [names, images] = containers(&set["spec"]["template"]);
            cells(set, [json!(ready(set)), format::age(set, now), names, images])
        },
    },
    Printer {
        group: "apps",
        resource: "daemonsets",
        columns: &[
            NAME,
            integer("Desired"),
            integer("Current"),
            integer("Ready"),
            integer("Up-to-date"),
            integer("Available"),
            text("Node Selector"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        row: daemon_set,
    },
    Printer {
        group: "apps",
        resource: "controllerrevisions",
        columns: &[NAME, text("Controller"), text("Revision"), AGE],
        row: |revision, now| {
            cells(revision, [json!(controller(revision)), count(&revision["revision"]), format::age(revision, now)])
        },
    },
    Printer {
        group: "batch",
        resource: "jobs",
        columns: &[
            NAME,
            text("Status"),
            text("Completions"),
            text("Duration"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        row: job,
    },
    Printer {
        group: "batch",
        resource: "cronjobs",
        columns: &[
            NAME,
            text("Schedule"),
            text("Timezone"),
            boolean("Suspend"),
            integer("Active"),
            text("Last Schedule"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        row: cron_job,
    },
    Printer {
        group: "autoscaling",
        resource: "horizontalpodautoscalers",
        columns: &[NAME, text("Reference"), text("Targets"), text("MinPods"), text("MaxPods"), text("Replicas"), AGE],
        row: autoscaler,
    },
    Printer {
        group: "policy",
        resource: "poddisruptionbudgets",
        columns: &[NAME, text("Min Available"), text("Max Unavailable"), integer("Allowed Disruptions"), AGE],
        row: |budget, now| {
            let bound = |field: &str| match &budget["spec"][field] {
                Value::Null => json!("N/A"),
                other => json!(format::plain(other)),
            };
            let allowed = count(&budget["status"]["disruptionsAllowed"]);
            cells(budget, [bound("minAvailable"), bound("maxUnavailable"), allowed, format::age(budget, now)])
        },
    },
];

const REPLICAS: &[super::Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// The names and the images of a template's containers.
fn containers(template: &Value) -> [Value; 2] {
    let list = &template["spec"]["containers"];
    [json!(format::joined(list, "name")), json!(format::joined(list, "image"))]
}

fn ready(obj: &Value) -> String {
    let number = |v: &Value| v.as_i64().unwrap_or(0);
    format!("{}/{}", number(&obj["status"]["readyReplicas"]), number(&obj["spec"]["replicas"]))
}

fn deployment(deployment: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    let [names, images] = containers(&spec["template"]);
    let selector = json!(format::selector(&spec["selector"]));
    let (updated, available) = (count(&status["updatedReplicas"]), count(&status["availableReplicas"]));
    cells(
        deployment,
        [json!(ready(deployment)), updated, available, format::age(deployment, now), names, images, selector],
    )
}

fn replicas(set: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&set["spec"], &set["status"]);
    let [names, images] = containers(&spec["template"]);
    let old = set["kind"] == "ReplicationController";
    let selector = if old { format::labels(&spec["selector"]) } else { format::selector(&spec["selector"]) };
    let counts = [&spec["replicas"], &status["replicas"], &status["readyReplicas"]].map(count);
    let [desired, current, ready] = counts;
    cells(set, [desired, current, ready, format::age(set, now), names, images, json!(selector)])
}

fn daemon_set(set: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&set["spec"], &set["status"]);
    let [names, images] = containers(&spec["template"]);
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ]
    .map(|f| count(&status[f]));
    let nodes = json!(format::labels(&spec["template"]["spec"]["nodeSelector"]));
    let rest = [nodes, format::age(set, now), names, images, json!(format::selector(&spec["selector"]))];
    cells(set, counts.into_iter().chain(rest))
}

/// The controller of an object, as `kind.group/name`.
fn controller(obj: &Value) -> String {
    let owner = list(&obj["metadata"]["ownerReferences"]).iter().find(|o| o["controller"] == true);
    let Some(owner) = owner else { return NONE.to_owned() };
    let kind = owner["kind"].as_str().unwrap_or("").to_lowercase();
    let (group, _) = apimachinery::meta::group_version(owner["apiVersion"].as_str().unwrap_or(""));
    let name = owner["name"].as_str().unwrap_or("");
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

fn job_state(job: &Value) -> &'static str {
    let deleted = !job["metadata"]["deletionTimestamp"].is_null();
    let states = ["Complete", "Failed"].into_iter().find(|c| format::is_true(job, c));
    let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|c| format::is_true(job, c));
    match (states, later) {
        (Some(state), _) => state,
        (None, _) if deleted => "Terminating",
        (None, Some(state)) => state,
        (None, None) => "Running",
    }
}

fn job(job: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let done = status["succeeded"].as_i64().unwrap_or(0);
    let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64().unwrap_or(0)) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        _ => format!("{done}/1"),
    };
    let time = |v: &Value| v.as_str().and_then(Moment::parse).map(|m| m.seconds);
    let duration = match (time(&status["startTime"]), time(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), Some(end)) => format::human_duration(end - start),
        (Some(start), None) => format::human_duration(now.seconds - start),
    };
    let [names, images] = containers(&spec["template"]);
    let selector = json!(format::selector(&spec["selector"]));
    let head = [json!(job_state(job)), json!(completions), json!(duration)];
    cells(job, head.into_iter().chain([format::age(job, now), names, images, selector]))
}

fn cron_job(cron: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&cron["spec"], &cron["status"]);
    let last = &status["lastScheduleTime"];
    let last = if last.is_null() { NONE.to_owned() } else { format::since(last, now) };
    let suspended = match spec["suspend"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => UNSET,
    };
    let job = &spec["jobTemplate"]["spec"];
    let [names, images] = containers(&job["template"]);
    let head = [
        format::text(&spec["schedule"]),
        format::text_or(&spec["timeZone"], NONE),
        json!(suspended),
        json!(list(&status["active"]).len()),
        json!(last),
        format::age(cron, now),
    ];
    cells(cron, head.into_iter().chain([names, images, json!(format::selector(&job["selector"]))]))
}

fn autoscaler(autoscaler: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&autoscaler["spec"], &autoscaler["status"]);
    let target = &spec["scaleTargetRef"];
    let reference = format!("{}/{}", format::plain(&target["kind"]), format::plain(&target["name"]));
    let min = spec["minReplicas"].as_i64().map_or_else(|| UNSET.to_owned(), |n| n.to_string());
    let metrics = match spec["targetCPUUtilizationPercentage"].as_i64() {
        Some(percent) => {
            let now = status["currentCPUUtilizationPercentage"].as_i64();
            format!("cpu: {}/{percent}%", now.map_or_else(|| UNKNOWN.to_owned(), |n| format!("{n}%")))
        }
        None => metrics(list(&spec["metrics"]), list(&status["currentMetrics"])),
    };
    let rest =
        [json!(min), count(&spec["maxReplicas"]), count(&status["currentReplicas"]), format::age(autoscaler, now)];
    cells(autoscaler, [json!(reference), json!(metrics)].into_iter().chain(rest))
}

/// The first two metrics: what is, and what should be.
fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    const SHOWN: usize = 2;
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let mut all: Vec<String> =
        specs.iter().enumerate().map(|(i, spec)| metric(spec, statuses.get(i).unwrap_or(&Value::Null))).collect();
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    let shown = all.join(", ");
    if more > 0 { format!("{shown} + {more} more...") } else { shown }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (field, named) = match spec["type"].as_str().unwrap_or("") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[field]["target"], &status[field]["current"]);
    let is = |f: &str| if current[f].is_null() { UNKNOWN.to_owned() } else { format::plain(&current[f]) };
    let name = if named { format!("{}: ", format::plain(&spec[field]["name"])) } else { String::new() };
    if let Some(percent) = target["averageUtilization"].as_i64() {
        let now = current["averageUtilization"].as_i64();
        return format!("{name}{}/{percent}%", now.map_or_else(|| UNKNOWN.to_owned(), |n| format!("{n}%")));
    }
    if !target["averageValue"].is_null() {
        let average = if matches!(field, "external" | "object") { " (avg)" } else { "" };
        return format!("{name}{}/{}{average}", is("averageValue"), format::plain(&target["averageValue"]));
    }
    format!("{name}{}/{}", is("value"), format::plain(&target["value"]))
}
