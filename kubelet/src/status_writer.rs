//! Writing a pod's status to the API: for pods of the API a patch when it changes and the final delete; for static pods their mirror.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component_base::client::{is_conflict, is_not_found};
use component_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::pod;
use crate::pod::condition;
use crate::worker::{Handle, Told};

const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(10);

/// The status without what others decide about.
fn own(status: &PodStatus) -> PodStatus {
    let mut status = status.clone();
    status.conditions.iter_mut().for_each(|conditions| conditions.retain(condition::is_own));
    status
}

/// The body of a strategic merge patch from one own status to the next. Pure.
pub fn patch(uid: &str, before: Option<&PodStatus>, status: &PodStatus) -> Value {
    let mut value = json!(status);
    let Some(map) = value.as_object_mut() else { return value };
    for field in ["message", "reason"] {
        map.entry(field).or_insert(Value::Null);
    }
    if let Some(conditions) = map.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            for field in ["message", "reason"] {
                condition.entry(field).or_insert(Value::Null);
            }
        }
    }
    // Addresses and conditions are merged by their keys: those that are gone have to be named.
    for (field, key, old) in [
        ("podIPs", "ip", before.and_then(|b| b.pod_ips.as_ref()).map(|ips| json!(ips))),
        ("hostIPs", "ip", before.and_then(|b| b.host_ips.as_ref()).map(|ips| json!(ips))),
        ("conditions", "type", before.and_then(|b| b.conditions.as_ref()).map(|conditions| json!(conditions))),
    ] {
        let Some(Value::Array(old)) = old else { continue };
        let now = map.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let is_gone = |item: &Value| !now.iter().any(|other| other[key] == item[key]);
        let gone = old.into_iter().filter(is_gone).map(|item| json!({ key: item[key], "$patch": "delete" }));
        let all: Vec<Value> = now.iter().cloned().chain(gone).collect();
        if !all.is_empty() {
            map.insert(field.into(), all.into());
        }
    }
    json!({ "metadata": { "uid": uid }, "status": value })
}

/// The phase and the conditions of a status: what others go by.
fn readiness(status: &PodStatus) -> (Option<&str>, BTreeMap<&str, &str>) {
    let conditions = status.conditions.iter().flatten().map(|c| (c.type_.as_str(), c.status.as_str()));
    (status.phase.as_deref(), conditions.collect())
}

/// The revision of an object; revisions can be compared (KEP-5504).
fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

struct Writer {
    agent: Arc<Agent>,
    handle: Handle,
    api: Api<Pod>,
    written: Option<PodStatus>,
    /// The revision of the last write.
    revision: u64,
    /// The mirror as it was made, until the watch shows it.
    created: Option<Arc<Pod>>,
    /// The mirror that `written` is of.
    mirror_uid: Option<String>,
}

/// Writes until the pod is gone, its worker has ended, or the kubelet ends.
pub async fn run(agent: Arc<Agent>, handle: Handle, shutdown: Shutdown) {
    let first = Arc::clone(&handle.input.borrow().pod);
    let orphan = pod::annotation(&first, pod::CONFIG_SOURCE) == Some("orphan");
    let Some(client) = agent.client.clone().filter(|_| !orphan) else { return };
    let api = Api::namespaced(client, pod::namespace(&first));
    let written = first.status.as_ref().map(own);
    let mut told = handle.statuses.clone();
    let mut input = handle.input.subscribe();
    let mirror_changed = Arc::clone(&handle.mirror_changed);
    let is_static = pod::is_static(&first);
    let mut writer = Writer { agent, handle, api, written, revision: 0, created: None, mirror_uid: None };
    let mut retry = RETRY;
    loop {
        let current = told.borrow_and_update().clone();
        if current != Told::default() {
            let outcome = if is_static { writer.write_mirror(&current).await } else { writer.write(&current).await };
            match outcome {
                Ok(true) => return,
                Ok(false) => retry = RETRY,
                Err(error) => {
                    tracing::warn!(pod = pod::name(&first), %error, "the pod's status cannot be written yet");
                    tokio::select! {
                        () = tokio::time::sleep(retry) => {}
                        () = shutdown.cancelled() => return,
                    }
                    retry = (retry * 2).min(MAX_RETRY);
                    continue;
                }
            }
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            changed = input.changed(), if !is_static => if changed.is_err() { return },
            () = mirror_changed.notified(), if is_static => {}
            () = shutdown.cancelled() => return,
        }
    }
}

impl Writer {
    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.handle.input.borrow().pod)
    }

    /// Whether there is nothing left to write.
    async fn write(&mut self, told: &Told) -> Result<bool, kube::Error> {
        let pod = self.pod();
        let (name, uid) = (pod::name(&pod), pod::uid(&pod));
        if self.handle.input.borrow().removed {
            return Ok(told.done);
        }
        self.reconcile(&pod);
        if !self.patch(name, uid, &told.status).await? {
            return Ok(told.done);
        }
        if !told.done || pod.metadata.deletion_timestamp.is_none() {
            return Ok(false);
        }
        self.delete(name, uid).await?;
        Ok(true)
    }

    /// Whoever takes a node for lost says of its pods that they are not ready: a kubelet that is there says it better.
    fn reconcile(&mut self, seen: &Pod) {
        let Some(status) = seen.status.as_ref().filter(|_| revision(seen) > self.revision).map(own) else { return };
        if self.written.as_ref().is_some_and(|written| readiness(written) != readiness(&status)) {
            self.written = Some(status);
        }
    }

    /// Patches the status if it differs; false when the object is gone or another one.
    async fn patch(&mut self, name: &str, uid: &str, status: &PodStatus) -> Result<bool, kube::Error> {
        let status = own(status);
        if self.written.as_ref() == Some(&status) {
            return Ok(true);
        }
        let body = patch(uid, self.written.as_ref(), &status);
        match self.api.patch_status(name, &PatchParams::default(), &Patch::Strategic(body)).await {
            Ok(pod) => {
                self.revision = revision(&pod);
                self.written = Some(status);
                Ok(true)
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => {
                tracing::debug!(pod = name, %error, "the pod is gone from the API");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<(), kube::Error> {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..Default::default() };
        match self.api.delete(name, &params).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn write_mirror(&mut self, told: &Told) -> Result<bool, kube::Error> {
        let pod = self.pod();
        let name = pod::name(&pod);
        // From the watch: a node may not read a pod that is not (yet) its own.
        let agent = Arc::clone(&self.agent);
        let Some(pods) = &agent.api_pods else { return Ok(true) };
        pods.synced().await;
        let existing = pods.store().find(pod::namespace(&pod), name);
        if existing.is_some() {
            self.created = None;
        }
        let existing = existing.or_else(|| self.created.clone());
        let hash = pod::annotation(&pod, pod::CONFIG_HASH);
        if told.done || self.handle.input.borrow().removed {
            if let Some(mirror) = existing.filter(|mirror| pod::annotation(mirror, pod::CONFIG_MIRROR) == hash) {
                self.delete(name, pod::uid(&mirror)).await?;
            }
            return Ok(told.done);
        }
        let mirror = match existing {
            Some(mirror)
                if pod::annotation(&mirror, pod::CONFIG_MIRROR) == hash
                    && mirror.metadata.deletion_timestamp.is_none() =>
            {
                mirror
            }
            Some(other) => {
                self.delete(name, pod::uid(&other)).await?;
                self.create_mirror(&pod).await?
            }
            None => self.create_mirror(&pod).await?,
        };
        if self.mirror_uid.as_deref() != Some(pod::uid(&mirror)) {
            self.mirror_uid = Some(pod::uid(&mirror).to_owned());
            self.written = mirror.status.as_ref().map(own);
        }
        self.reconcile(&mirror);
        let written = self.patch(name, pod::uid(&mirror), &told.status).await?;
        if !written {
            self.created = None;
        }
        Ok(false)
    }

    async fn create_mirror(&mut self, pod: &Pod) -> Result<Arc<Pod>, kube::Error> {
        let mut mirror = pod.clone();
        mirror.status = None;
        mirror.metadata.uid = None;
        if let Some(hash) = pod::annotation(pod, pod::CONFIG_HASH).map(str::to_owned) {
            mirror.metadata.annotations.get_or_insert_default().insert(pod::CONFIG_MIRROR.into(), hash);
        }
        mirror.metadata.owner_references = self.owner().await?;
        let made = Arc::new(self.api.create(&PostParams::default(), &mirror).await?);
        self.created = Some(Arc::clone(&made));
        Ok(made)
    }

    /// A mirror pod belongs to its node, as admission demands.
    async fn owner(
        &self,
    ) -> Result<Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>>, kube::Error> {
        let Some(client) = self.agent.client.clone() else { return Ok(None) };
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client);
        let node = nodes.get(&self.agent.node_name).await?;
        Ok(Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.agent.node_name.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            controller: Some(true),
            ..Default::default()
        }]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_named_in_the_patch() {
        let before: PodStatus = serde_json::from_value(
            json!({"podIPs": [{"ip": "a"}], "message": "m", "conditions": [{"type": "PodResizePending", "status": "True"}]}),
        )
        .unwrap();
        let after: PodStatus = serde_json::from_value(json!({"podIPs": [{"ip": "b"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "example.com/theirs", "status": "True"},
        ]}))
        .unwrap();
        let patch = patch("u", Some(&own(&before)), &own(&after));
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["status"]["podIPs"], json!([{"ip": "b"}, {"ip": "a", "$patch": "delete"}]));
        assert_eq!(patch["status"]["conditions"][0]["message"], Value::Null);
        assert_eq!(patch["status"]["conditions"][1], json!({"type": "PodResizePending", "$patch": "delete"}));
        assert!(patch["status"].as_object().unwrap().contains_key("message"));
    }
}
