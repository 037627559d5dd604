//! Carrying out decisions: bindings, conditions and events. Every decision is a task of its own; the number that talk to the API at a time is limited.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use component_base::client::{is_conflict, is_not_found};
use component_base::events::{EventType, Recorder};
use component_base::runner::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::names;
use crate::framework::{Code, Point, Status, WaitingPods};
use crate::labels::Str;
use crate::metrics::{Attempt, Metrics};
use crate::pod::Pod;
use crate::queue::{Profiles, Setback};
use crate::scheduler::{Assignment, Input, MadeRoom, Outcome, Promise, Rejection, unreserve};

/// Decisions that talk to the API at a time; more wait their turn.
const MAX_IN_FLIGHT: usize = 256;

#[derive(Clone)]
pub struct Effects {
    client: Client,
    /// By scheduler name, which is the events' source.
    recorders: Arc<HashMap<Str, Recorder>>,
    permits: Arc<Semaphore>,
    waiting: Arc<WaitingPods>,
    inputs: mpsc::Sender<Input>,
    metrics: Metrics,
}

impl Effects {
    pub fn new(client: Client, profiles: &Profiles, inputs: mpsc::Sender<Input>, metrics: Metrics) -> Self {
        let recorders = names(profiles).map(|name| (name.clone(), Recorder::new(client.clone(), name, None))).collect();
        Self {
            client,
            recorders: Arc::new(recorders),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            waiting: Arc::default(),
            inputs,
            metrics,
        }
    }

    /// Starts what the outcome of a cycle asks for.
    pub fn carry_out(&self, outcome: Outcome, started: Instant) {
        let effects = self.clone();
        match outcome {
            Outcome::Assigned(assignment) => drop(tokio::spawn(effects.bind(assignment, started))),
            Outcome::Failed(rejection) => drop(tokio::spawn(effects.report(rejection))),
            Outcome::Dropped => {}
        }
    }

    /// A pod that waits for a permission waits no longer.
    pub fn pod_gone(&self, uid: &str) {
        self.waiting.reject(uid, "", "the pod was deleted".into());
    }

    async fn bind(self, assignment: Assignment, started: Instant) {
        let uid = assignment.pod.uid.clone();
        let status = self.bind_now(&assignment).await;
        let result = if status.is_success() {
            self.bound(&assignment, started);
            Ok(())
        } else {
            unreserve(&assignment.profile, &assignment.pod, &assignment.node);
            self.metrics.attempt(&assignment.profile.scheduler_name, outcome_of(&status), started.elapsed());
            Err(self.binding_failed(&assignment, status).await)
        };
        if self.inputs.send(Input::BindingEnded { uid, result }).await.is_err() {
            tracing::debug!("a binding ended after the scheduler did");
        }
    }

    async fn bind_now(&self, assignment: &Assignment) -> Status {
        let Assignment { pod, node, profile, .. } = assignment;
        let allowed = self.waiting.wait(&pod.uid, &assignment.waits_for).await;
        if !allowed.is_success() {
            return allowed;
        }
        let Ok(_permit) = self.permits.acquire().await else { return Status::error("the scheduler ends") };
        for enabled in profile.at(Point::PreBind) {
            let status = enabled.plugin.pre_bind(pod, node).await;
            if !status.is_success() {
                return status.by(enabled.plugin.name());
            }
        }
        for enabled in profile.at(Point::Bind) {
            let status = enabled.plugin.bind(pod, node).await;
            if status.code != Code::Skip {
                return status.by(enabled.plugin.name());
            }
        }
        Status::error("no plugin binds this pod")
    }

    fn bound(&self, assignment: &Assignment, started: Instant) {
        let Assignment { pod, node, profile, .. } = assignment;
        profile.at(Point::PostBind).iter().for_each(|enabled| enabled.plugin.post_bind(pod, node));
        self.metrics.bound(assignment, started.elapsed());
        let note = format!("Successfully assigned {} to {node}", pod.key());
        self.record(pod, EventType::Normal, "Scheduled", "Binding", note);
        tracing::debug!(pod = pod.key(), node = &**node, "bound");
    }

    async fn binding_failed(&self, assignment: &Assignment, status: Status) -> Setback {
        tracing::warn!(pod = assignment.pod.key(), node = &*assignment.node, reason = status.message(), "not bound");
        let rejected = status.is_rejection();
        let reason = if rejected { crate::scheduler::UNSCHEDULABLE } else { crate::scheduler::SCHEDULER_ERROR };
        let pod = assignment.pod.clone();
        let rejection = Rejection { pod, reason, message: status.message(), promise: Promise::Unchanged };
        self.clone().report(rejection).await;
        if rejected { Setback::Rejected { by: vec![status.plugin] } } else { Setback::Error }
    }

    /// Says in the pod's condition and in an event why it was not placed.
    async fn report(self, rejection: Rejection) {
        let Rejection { pod, reason, message, promise } = rejection;
        self.record(&pod, EventType::Warning, "FailedScheduling", "Scheduling", message.clone());
        let wanted = ("False", reason, message.as_str());
        let is_said = pod.scheduled_condition.as_ref().is_some_and(|(s, r, m)| (&**s, &**r, &**m) == wanted);
        if is_said && matches!(promise, Promise::Unchanged) {
            return;
        }
        let Ok(_permit) = self.permits.acquire().await else { return };
        let mut patch = condition(&pod, reason, &message);
        match &promise {
            Promise::Unchanged => {}
            Promise::Withdrawn => patch["status"]["nominatedNodeName"] = json!(null),
            Promise::Made(made_room) => {
                self.make_room(&pod, made_room).await;
                patch["status"]["nominatedNodeName"] = json!(&*made_room.node);
            }
        }
        self.patch_status(&pod, patch).await;
    }

    async fn patch_status(&self, pod: &Pod, patch: serde_json::Value) {
        let pods: Api<api::Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        match pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => tracing::warn!(pod = pod.key(), error = chain(&error), "the pod's status was not written"),
        }
    }

    /// Deletes the pods that make room for another, and says so.
    async fn make_room(&self, pod: &Pod, made_room: &MadeRoom) {
        for displaced in &made_room.displaced {
            let meta = json!({"uid": &*displaced.uid});
            self.patch_status(displaced, json!({"metadata": meta, "status": {"nominatedNodeName": null}})).await;
        }
        for victim in &made_room.victims {
            let target = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", victim.scheduler_name),
                "lastTransitionTime": now(),
            });
            let meta = json!({"uid": &*victim.uid});
            self.patch_status(victim, json!({"metadata": meta, "status": {"conditions": [target]}})).await;
            let pods: Api<api::Pod> = Api::namespaced(self.client.clone(), &victim.namespace);
            let preconditions = Preconditions { uid: Some(victim.uid.to_string()), resource_version: None };
            match pods.delete(&victim.name, &DeleteParams::default().preconditions(preconditions)).await {
                Ok(_) => {
                    let note = format!("Preempted by pod {} on node {}", pod.uid, made_room.node);
                    self.record(victim, EventType::Normal, "Preempted", "Preempting", note);
                }
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                Err(error) => tracing::warn!(pod = victim.key(), error = chain(&error), "the pod was not preempted"),
            }
        }
    }

    fn record(&self, pod: &Pod, event_type: EventType, reason: &str, action: &str, note: String) {
        if let Some(recorder) = self.recorders.get(&pod.scheduler_name) {
            recorder.event(&reference(pod), event_type, reason, action, note);
        }
    }
}

fn outcome_of(status: &Status) -> Attempt {
    if status.is_rejection() { Attempt::Unschedulable } else { Attempt::Error }
}

fn reference(pod: &Pod) -> api::ObjectReference {
    api::ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace.to_string()),
        name: Some(pod.name.to_string()),
        uid: Some(pod.uid.to_string()),
        resource_version: Some(pod.resource_version.to_string()),
        field_path: None,
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The patch that sets the condition PodScheduled to False; the uid keeps it from a later pod of the same name.
fn condition(pod: &Pod, reason: &str, message: &str) -> serde_json::Value {
    let mut condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message});
    let was_false = pod.scheduled_condition.as_ref().is_some_and(|(status, _, _)| &**status == "False");
    if !was_false {
        condition["lastTransitionTime"] = json!(now());
    }
    json!({"metadata": {"uid": &*pod.uid}, "status": {"conditions": [condition]}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PodBuilder;

    #[test]
    fn the_condition_keeps_its_time_of_change_while_it_stays_false() {
        let fresh = condition(&PodBuilder::new("p").build(), "Unschedulable", "why");
        assert!(fresh.pointer("/status/conditions/0/lastTransitionTime").is_some());
        let status =
            json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}});
        let again = condition(&PodBuilder::new("p").with("", status).build(), "Unschedulable", "why");
        assert!(again.pointer("/status/conditions/0/lastTransitionTime").is_none());
    }
}
