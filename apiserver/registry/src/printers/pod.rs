//! Pods and pod templates.

use apimachinery::time::Moment;
use serde_json::{Value, json};

use super::format::{self, NONE, list};
use super::{AGE, NAME, Printer, cells, text, wide};

pub(super) const ALL: &[Printer] = &[
    Printer {
        group: "",
        resource: "pods",
        columns: &[
            NAME,
            text("Ready"),
            text("Status"),
            text("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ],
        row: pod,
    },
    Printer {
        group: "",
        resource: "podtemplates",
        columns: &[NAME, text("Containers"), text("Images"), text("Pod Labels")],
        row: |template, _now| {
            let containers = &template["template"]["spec"]["containers"];
            let labels = format::labels(&template["template"]["metadata"]["labels"]);
            cells(
                template,
                [json!(format::joined(containers, "name")), json!(format::joined(containers, "image")), json!(labels)],
            )
        },
    },
];

/// What the containers' statuses come to.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Moment>,
}

impl Summary {
    fn restarted(&mut self, status: &Value) {
        self.restarts += status["restartCount"].as_i64().unwrap_or(0);
        let ended = status["lastState"]["terminated"]["finishedAt"].as_str().and_then(Moment::parse);
        self.last_restart = self.last_restart.max(ended);
    }
}

fn pod(pod: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let sidecars = list(&spec["initContainers"]).iter().filter(|c| c["restartPolicy"] == "Always").count();
    let total = list(&spec["containers"]).len() + sidecars;
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, format::human_duration(now.seconds - time.seconds))
        }
        _ => summary.restarts.to_string(),
    };
    let address = status["podIPs"][0]["ip"].as_str().or_else(|| status["podIP"].as_str()).filter(|s| !s.is_empty());
    cells(
        pod,
        [
            json!(format!("{}/{total}", summary.ready)),
            json!(summary.reason),
            json!(restarts),
            format::age(pod, now),
            json!(address.unwrap_or(NONE)),
            format::text_or(&spec["nodeName"], NONE),
            format::text_or(&status["nominatedNodeName"], NONE),
            json!(readiness_gates(pod)),
        ],
    )
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|g| format::is_true(pod, g["conditionType"].as_str().unwrap_or(""))).count();
    format!("{open}/{}", gates.len())
}

fn summarize(pod: &Value) -> Summary {
    let status = &pod["status"];
    let phase = status["phase"].as_str().unwrap_or("");
    let stated = status["reason"].as_str().filter(|r| !r.is_empty());
    let mut summary = Summary { reason: stated.unwrap_or(phase).to_owned(), ready: 0, restarts: 0, last_restart: None };
    if format::condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initializing = init_containers(pod, &mut summary);
    if !initializing || format::is_true(pod, "Initialized") {
        containers(pod, &mut summary);
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        if status["reason"] == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Whether a container ended well, and, if it did not, how.
fn ending(terminated: &Value) -> String {
    match (terminated["reason"].as_str().unwrap_or(""), terminated["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Goes through the init containers up to the first that is not done. Tells whether there is one.
fn init_containers(pod: &Value, summary: &mut Summary) -> bool {
    let specs = list(&pod["spec"]["initContainers"]);
    let is_sidecar = |name: &Value| specs.iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always");
    for (i, status) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        summary.restarted(status);
        let (terminated, waiting) = (&status["state"]["terminated"], &status["state"]["waiting"]);
        if terminated.is_object() && terminated["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if is_sidecar(&status["name"]) && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        let reason = waiting["reason"].as_str().unwrap_or("");
        summary.reason = if terminated.is_object() {
            format!("Init:{}", ending(terminated))
        } else if !reason.is_empty() && reason != "PodInitializing" {
            format!("Init:{reason}")
        } else {
            format!("Init:{i}/{}", specs.len())
        };
        return true;
    }
    false
}

fn containers(pod: &Value, summary: &mut Summary) {
    let specs = list(&pod["spec"]["initContainers"]);
    let is_sidecar = |name: &Value| specs.iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always");
    let of_sidecars = list(&pod["status"]["initContainerStatuses"]).iter().filter(|s| is_sidecar(&s["name"]));
    (summary.restarts, summary.last_restart) = (0, None);
    of_sidecars.for_each(|s| summary.restarted(s));
    let mut running = false;
    for status in list(&pod["status"]["containerStatuses"]).iter().rev() {
        summary.restarted(status);
        let (terminated, waiting) = (&status["state"]["terminated"], &status["state"]["waiting"]);
        let reason = waiting["reason"].as_str().unwrap_or("");
        if !reason.is_empty() {
            summary.reason = reason.to_owned();
        } else if terminated.is_object() {
            summary.reason = ending(terminated);
        } else if status["ready"] == true && status["state"]["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if format::is_true(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::time::Moment;
    use serde_json::json;

    use super::pod;

    #[test]
    fn a_pod_reads_as_its_containers_are() {
        let now = Moment::parse("2026-01-01T01:00:00Z").expect("a time");
        let show = |status: serde_json::Value| {
            let object = json!({
                "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
                "status": status,
            });
            let cells = pod(&object, now);
            [1, 2, 3].map(|i| cells[i].as_str().unwrap_or("").to_owned()).join(" ")
        };
        assert_eq!(show(json!({"phase": "Pending"})), "0/2 Pending 0");
        assert_eq!(
            show(json!({"phase": "Running", "containerStatuses": [
                {"ready": true, "state": {"running": {}}, "restartCount": 0},
                {"ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z"}}}]})),
            "1/2 CrashLoopBackOff 3 (2m ago)"
        );
        assert_eq!(
            show(json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 2}}, "restartCount": 1}]})),
            "0/2 Init:ExitCode:2 1"
        );
        assert_eq!(
            show(json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]})),
            "0/2 Init:0/1 0"
        );
    }
}
