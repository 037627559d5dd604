//! Pods.

use serde_json::Value;

use super::Subject;
use super::containers::{self, Containers};
use super::page::{NONE, Page, controller};
use super::time::{rfc1123, since};
use super::volumes;
use crate::fields::Fields;

/// Writes a pod.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (pod, mut page) = (subject.object, Page::default());
    page.head(pod);
    place(&mut page, pod);
    page.tags(pod);
    state(&mut page, subject);
    if pod.has("spec.resources") {
        page.line(0, "Resources:");
        containers::resources(&mut page, 1, pod.at("spec.resources"));
    }
    all_containers(&mut page, pod);
    conditions(&mut page, pod);
    let spec = pod.at("spec");
    volumes::describe(&mut page, "", spec.list("volumes"));
    page.field(0, "QoS Class", pod.text("status.qosClass"));
    page.labels("Node-Selectors", spec.at("nodeSelector"));
    containers::tolerations(&mut page, "Tolerations", spec.list("tolerations"));
    containers::spread(&mut page, "", spec.list("topologySpreadConstraints"));
    page
}

fn place(page: &mut Page, pod: &Value) {
    let spec = pod.at("spec");
    if spec.has("priority") {
        page.field(0, "Priority", spec.int("priority"));
    }
    for (label, field) in [
        ("Priority Class Name", "priorityClassName"),
        ("Runtime Class Name", "runtimeClassName"),
        ("Service Account", "serviceAccountName"),
    ] {
        if !spec.text(field).is_empty() {
            page.field(0, label, spec.text(field));
        }
    }
    match spec.text("nodeName") {
        "" => page.field(0, "Node", NONE),
        node => page.field(0, "Node", format_args!("{node}/{}", pod.text("status.hostIP"))),
    }
    if pod.has("status.startTime") {
        page.field(0, "Start Time", rfc1123(pod.at("status.startTime")));
    }
}

fn state(page: &mut Page, subject: &Subject<'_>) {
    let pod = subject.object;
    let (phase, deleted) = (pod.text("status.phase"), pod.at("metadata.deletionTimestamp"));
    if !deleted.is_null() && !matches!(phase, "Failed" | "Succeeded") {
        page.field(0, "Status", format_args!("Terminating (lasts {})", since(deleted, subject.now)));
        let grace = pod.int("metadata.deletionGracePeriodSeconds");
        page.field(0, "Termination Grace Period", format_args!("{grace}s"));
    } else {
        page.field(0, "Status", phase);
    }
    for (label, field) in [("Reason", "status.reason"), ("Message", "status.message")] {
        if !pod.text(field).is_empty() {
            page.field(0, label, pod.text(field));
        }
    }
    containers::seccomp(page, 0, pod.at("spec.securityContext.seccompProfile"), 0);
    page.field(0, "IP", pod.text("status.podIP"));
    match pod.list("status.podIPs") {
        [] => page.field(0, "IPs", NONE),
        addresses => {
            page.line(0, "IPs:");
            addresses.iter().for_each(|address| page.field(1, "IP", address.text("ip")));
        }
    }
    if let Some(controller) = controller(pod) {
        page.field(0, "Controlled By", controller);
    }
    if !pod.text("status.nominatedNodeName").is_empty() {
        page.field(0, "NominatedNodeName", pod.text("status.nominatedNodeName"));
    }
}

fn all_containers(page: &mut Page, pod: &Value) {
    for (label, list, statuses) in [
        ("Init Containers", "spec.initContainers", "status.initContainerStatuses"),
        ("Containers", "spec.containers", "status.containerStatuses"),
        ("Ephemeral Containers", "spec.ephemeralContainers", "status.ephemeralContainerStatuses"),
    ] {
        let list = pod.list(list);
        if !list.is_empty() || label == "Containers" {
            Containers { label, list, statuses: pod.list(statuses), pod: Some(pod), indent: "" }.describe(page);
        }
    }
}

fn conditions(page: &mut Page, pod: &Value) {
    let conditions = pod.list("status.conditions");
    let gates = pod.list("spec.readinessGates");
    if !gates.is_empty() {
        page.line(0, "Readiness Gates:\n  Type\tStatus");
        for gate in gates {
            let kind = gate.text("conditionType");
            let met = conditions.iter().find(|condition| condition.text("type") == kind);
            page.line(1, format_args!("{kind} \t{} ", met.map_or(NONE, |condition| condition.text("status"))));
        }
    }
    if !conditions.is_empty() {
        page.line(0, "Conditions:\n  Type\tStatus");
        for condition in conditions {
            page.line(1, format_args!("{} \t{} ", condition.text("type"), condition.text("status")));
        }
    }
}
