//! How far a roll-out is, in kubectl's words. Pure.

use serde_json::Value;

use crate::error::{Result, usage};

/// What there is to say, and whether it is the last.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    pub message: String,
    pub done: bool,
}

/// The progress of a deployment, daemon set or stateful set; of a certain revision, where one is wanted.
pub fn progress(kind: &str, object: &Value, revision: i64) -> Result<Progress> {
    match kind {
        "Deployment.apps" => deployment(object, revision),
        "DaemonSet.apps" => rolling(object).map(|()| daemon_set(object)),
        "StatefulSet.apps" => rolling(object).map(|()| stateful_set(object)),
        other => usage(format!("no status viewer has been implemented for {other}")),
    }
}

/// Sets that only replace pods when somebody deletes them have no progress.
fn rolling(object: &Value) -> Result<()> {
    match object["spec"]["updateStrategy"]["type"].as_str() {
        Some("RollingUpdate") => Ok(()),
        _ => usage("rollout status is only available for RollingUpdate strategy type"),
    }
}

fn going(message: String) -> Progress {
    Progress { message, done: false }
}

fn number(value: &Value, default: i64) -> i64 {
    value.as_i64().unwrap_or(default)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn observed(object: &Value) -> bool {
    number(&object["metadata"]["generation"], 0) <= number(&object["status"]["observedGeneration"], 0)
}

fn deployment(object: &Value, revision: i64) -> Result<Progress> {
    let (name, status) = (name(object), &object["status"]);
    if revision > 0 {
        let running: Option<i64> =
            object["metadata"]["annotations"][super::REVISION].as_str().and_then(|text| text.parse().ok());
        match running {
            None => return usage("cannot get the revision of deployment"),
            Some(running) if revision != running => {
                return usage(format!(
                    "desired revision ({revision}) is different from the running revision ({running})"
                ));
            }
            Some(_) => {}
        }
    }
    if !observed(object) {
        return Ok(going("Waiting for deployment spec update to be observed...".into()));
    }
    let late = |c: &Value| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded";
    if status["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(late)) {
        return usage(format!("deployment \"{name}\" exceeded its progress deadline"));
    }
    let wanted = number(&object["spec"]["replicas"], 1);
    let (all, updated) = (number(&status["replicas"], 0), number(&status["updatedReplicas"], 0));
    let available = number(&status["availableReplicas"], 0);
    let waiting = format!("Waiting for deployment \"{name}\" rollout to finish:");
    Ok(if updated < wanted {
        going(format!("{waiting} {updated} out of {wanted} new replicas have been updated..."))
    } else if all > updated {
        going(format!("{waiting} {} old replicas are pending termination...", all - updated))
    } else if available < updated {
        going(format!("{waiting} {available} of {updated} updated replicas are available..."))
    } else {
        Progress { message: format!("deployment \"{name}\" successfully rolled out"), done: true }
    })
}

fn daemon_set(object: &Value) -> Progress {
    let (name, status) = (name(object), &object["status"]);
    if !observed(object) {
        return going("Waiting for daemon set spec update to be observed...".into());
    }
    let wanted = number(&status["desiredNumberScheduled"], 0);
    let (updated, available) = (number(&status["updatedNumberScheduled"], 0), number(&status["numberAvailable"], 0));
    let waiting = format!("Waiting for daemon set \"{name}\" rollout to finish:");
    if updated < wanted {
        going(format!("{waiting} {updated} out of {wanted} new pods have been updated..."))
    } else if available < wanted {
        going(format!("{waiting} {available} of {wanted} updated pods are available..."))
    } else {
        Progress { message: format!("daemon set \"{name}\" successfully rolled out"), done: true }
    }
}

fn stateful_set(object: &Value) -> Progress {
    let status = &object["status"];
    if number(&status["observedGeneration"], 0) == 0 || !observed(object) {
        return going("Waiting for statefulset spec update to be observed...".into());
    }
    let (wanted, ready) = (number(&object["spec"]["replicas"], 1), number(&status["readyReplicas"], 0));
    if ready < wanted {
        return going(format!("Waiting for {} pods to be ready...", wanted - ready));
    }
    let (updated, revision) = (number(&status["updatedReplicas"], 0), &status["updateRevision"]);
    let text = revision.as_str().unwrap_or_default();
    let partition = number(&object["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0);
    if partition > 0 {
        if updated < wanted - partition {
            let all = wanted - partition;
            return going(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {all} new pods have been updated..."
            ));
        }
        let message = format!("partitioned roll out complete: {updated} new pods have been updated...");
        return Progress { message, done: true };
    }
    if *revision != status["currentRevision"] {
        return going(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {text}..."
        ));
    }
    let message = format!(
        "statefulset rolling update complete {} pods at revision {}...",
        number(&status["currentReplicas"], 0),
        status["currentRevision"].as_str().unwrap_or_default()
    );
    Progress { message, done: true }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn web(updated: i64, all: i64, available: i64) -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 3}, "status": {
            "observedGeneration": 2, "replicas": all, "updatedReplicas": updated, "availableReplicas": available}})
    }

    #[test]
    fn a_deployment_goes_through_its_stages() {
        let says = |object: Value| progress("Deployment.apps", &object, 0).unwrap().message;
        let waiting = "Waiting for deployment \"web\" rollout to finish:";
        assert_eq!(says(web(1, 3, 3)), format!("{waiting} 1 out of 3 new replicas have been updated..."));
        assert_eq!(says(web(3, 4, 3)), format!("{waiting} 1 old replicas are pending termination..."));
        assert_eq!(says(web(3, 3, 2)), format!("{waiting} 2 of 3 updated replicas are available..."));
        let done = progress("Deployment.apps", &web(3, 3, 3), 0).unwrap();
        assert_eq!(done, Progress { message: "deployment \"web\" successfully rolled out".into(), done: true });
    }

    #[test]
    fn a_missed_deadline_is_an_error() {
        let mut object = web(1, 3, 2);
        object["status"]["conditions"] = json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]);
        let error = progress("Deployment.apps", &object, 0).unwrap_err().to_string();
        assert_eq!(error, "deployment \"web\" exceeded its progress deadline");
    }
}
