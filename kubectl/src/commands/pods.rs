//! The pod that an argument stands for, and which of its containers is meant.

use std::cmp::{Ordering, Reverse};
use std::io::Write;
use std::time::Duration;

use apimachinery::labels::Selector;
use serde_json::Value;

use crate::api::{Call, Client};
use crate::error::{Error, Result, usage};
use crate::fields::{self, Fields};
use crate::resources::Target;
use crate::session::Session;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What a pod is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read what it wrote: one that restarts often has more to say.
    Logs,
    /// To do something in it.
    Attach,
}

/// `POD` or `TYPE/NAME`.
pub async fn target(session: &mut Session, argument: &str) -> Result<Target> {
    let (kind, name) = argument.split_once('/').unwrap_or(("pods", argument));
    let resource = session.find(kind).await?;
    let namespace = if resource.namespaced { session.namespace.clone() } else { String::new() };
    Ok(Target { resource, namespace, name: name.to_owned(), source: String::new() })
}

/// The pod to attach to: the object itself, or the best of those that it selects, waiting for the first.
///
/// # Errors
/// When the object selects no pods, or none comes in time.
pub async fn attachable(session: &Session, object: &Value, patience: Duration) -> Result<Value> {
    if object.text("kind") == "Pod" {
        return Ok(object.clone());
    }
    let selector = match selector(object) {
        Ok(selector) => selector,
        Err(why) => return usage(format!("cannot attach to {}: {why}", go_type(object))),
    };
    let mut pods = first_pods(&session.client, fields::namespace(object), &selector, patience).await?;
    sort(&mut pods, Purpose::Attach);
    Ok(pods.swap_remove(0))
}

/// How Go names the type of an object.
pub fn go_type(object: &Value) -> String {
    let version = object.text("apiVersion").rsplit('/').next().unwrap_or_default();
    format!("*{version}.{}", object.text("kind"))
}

/// The selector of the pods that belong to an object.
///
/// # Errors
/// Why there is none, in words.
pub fn selector(object: &Value) -> std::result::Result<String, String> {
    let value = object.at("spec.selector");
    match object.text("kind") {
        "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => Selector::from_label_selector(Some(value))
            .map(|selector| selector.to_string())
            .map_err(|error| format!("invalid label selector: {error}")),
        "Service" if value.map("").is_none() => {
            Err(format!("invalid service '{}': Service is defined without a selector", fields::name(object)))
        }
        "ReplicationController" | "Service" => {
            Ok(Selector::from_map(value.as_object().unwrap_or(&serde_json::Map::new())).to_string())
        }
        _ => Err(format!("selector for {} not implemented", go_type(object))),
    }
}

/// The pods of a selector, waiting for the first.
///
/// # Errors
/// When none comes in time.
pub async fn first_pods(client: &Client, namespace: &str, selector: &str, patience: Duration) -> Result<Vec<Value>> {
    let call = Call::get(format!("/api/v1/namespaces/{namespace}/pods")).query("labelSelector", selector);
    let list = client.json(&call).await?;
    if !list.list("items").is_empty() {
        return Ok(list.list("items").to_vec());
    }
    let watch = call.query("watch", "true").query("resourceVersion", list.text("metadata.resourceVersion"));
    let waiting = async {
        let mut events = client.stream(&watch).await?;
        while let Some(event) = events.event().await? {
            if matches!(event.text("type"), "ADDED" | "MODIFIED") {
                return Ok(vec![event["object"].clone()]);
            }
        }
        usage("watch closed before UntilWithoutRetry timeout")
    };
    match tokio::time::timeout(patience, waiting).await {
        Ok(found) => found,
        Err(_) => usage("timed out waiting for the condition"),
    }
}

/// The best pod first.
pub fn sort(pods: &mut [Value], purpose: Purpose) {
    pods.sort_by(|a, b| compare(a, b, purpose));
}

fn compare(a: &Value, b: &Value, purpose: Purpose) -> Ordering {
    let unassigned = |pod: &Value| pod.text("spec.nodeName").is_empty();
    let phase = |pod: &Value| match pod.text("status.phase") {
        "Unknown" => 1,
        "Pending" => 2,
        _ => 0,
    };
    let since = |pod: &Value| ready_since(pod).map(str::to_owned);
    let restarts = |pod: &Value| {
        pod.list("status.containerStatuses").iter().map(|status| status.int("restartCount")).max().unwrap_or(0)
    };
    let by_restarts = match purpose {
        Purpose::Logs => restarts(b).cmp(&restarts(a)),
        Purpose::Attach => restarts(a).cmp(&restarts(b)),
    };
    unassigned(a)
        .cmp(&unassigned(b))
        .then(phase(a).cmp(&phase(b)))
        .then(Reverse(since(a).is_some()).cmp(&Reverse(since(b).is_some())))
        .then(since(a).cmp(&since(b)))
        .then(by_restarts)
        .then(a.text("metadata.creationTimestamp").cmp(b.text("metadata.creationTimestamp")))
}

/// Since when a pod is ready, where it is.
fn ready_since(pod: &Value) -> Option<&str> {
    let ready = |condition: &&Value| condition.text("type") == "Ready" && condition.text("status") == "True";
    pod.list("status.conditions").iter().find(ready).map(|condition| condition.text("lastTransitionTime"))
}

/// The lists of a pod's containers, with what names from them are marked with.
const CONTAINERS: [(&str, &str); 3] =
    [("spec.containers", ""), ("spec.ephemeralContainers", " (ephem)"), ("spec.initContainers", " (init)")];

/// A container of a pod by name.
pub fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    CONTAINERS.iter().flat_map(|(path, _)| pod.list(path)).find(|container| container.text("name") == name)
}

/// The container that is meant when none is named: the annotated one, else the first, which is told when there are more.
///
/// # Errors
/// When there is none.
pub fn default_container<'a>(pod: &'a Value, quiet: bool, err: &mut dyn Write) -> Result<&'a Value> {
    let annotated = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    if let Some(container) = annotated.and_then(|name| container(pod, name)) {
        return Ok(container);
    }
    let Some(first) = pod.list("spec.containers").first() else {
        let (namespace, name) = (fields::namespace(pod), fields::name(pod));
        return usage(format!("pod {namespace}/{name} does not have any containers"));
    };
    let names: Vec<String> = CONTAINERS
        .iter()
        .flat_map(|(path, mark)| {
            pod.list(path).iter().map(move |container| format!("{}{mark}", container.text("name")))
        })
        .collect();
    if names.len() > 1 && !quiet {
        writeln!(err, "Defaulted container \"{}\" out of: {}", first.text("name"), names.join(", "))?;
    }
    Ok(first)
}

/// Fails where a pod has ended.
///
/// # Errors
/// When it has.
pub fn need_running(pod: &Value, doing: &str) -> Result<()> {
    match pod.text("status.phase") {
        phase @ ("Succeeded" | "Failed") => {
            Err(Error::Usage(format!("cannot {doing} a container in a completed pod; current phase is {phase}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ready: Option<&str>, restarts: i64) -> Value {
        let conditions = ready.map(|time| json!([{"type": "Ready", "status": "True", "lastTransitionTime": time}]));
        json!({"metadata": {"name": name}, "spec": {"nodeName": "n"}, "status": {"phase": phase, "conditions": conditions,
            "containerStatuses": [{"restartCount": restarts}]}})
    }

    #[test]
    fn the_pod_that_has_been_ready_longest_is_best() {
        let mut pods = [
            pod("pending", "Pending", None, 0),
            pod("often", "Running", None, 9),
            pod("seldom", "Running", None, 1),
            pod("late", "Running", Some("2026-01-02T00:00:00Z"), 0),
            pod("early", "Running", Some("2026-01-01T00:00:00Z"), 0),
        ];
        let names = |pods: &[Value]| pods.iter().map(|pod| fields::name(pod).to_owned()).collect::<Vec<_>>();
        sort(&mut pods, Purpose::Attach);
        assert_eq!(names(&pods), ["early", "late", "seldom", "often", "pending"]);
        sort(&mut pods, Purpose::Logs);
        assert_eq!(names(&pods), ["early", "late", "often", "seldom", "pending"]);
    }

    #[test]
    fn the_default_container_is_told_when_there_are_more() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let mut told = Vec::new();
        assert_eq!(default_container(&pod, false, &mut told).unwrap()["name"], "a");
        assert_eq!(String::from_utf8(told).unwrap(), "Defaulted container \"a\" out of: a, b, i (init)\n");
        pod["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "b"});
        let mut told = Vec::new();
        assert_eq!(default_container(&pod, false, &mut told).unwrap()["name"], "b");
        assert!(told.is_empty());
    }
}
