//! Subresources that are small actions on an object: scale, binding, eviction, finalize, approval, and the parts of a pod that
//! may be changed while it runs.

use std::sync::Arc;

use apimachinery::field;
use apimachinery::schema::{Schema, Type};
use apimachinery::{ApiError, Reason, labels, meta, time};
use apiserver_admission::{Attributes, Operation};
use apiserver_storage::{Object, reader};
use serde_json::{Value, json};

use super::delete::{Deleted, Options};
use super::patch::Patch;
use super::update::Part;
use super::write::{Call, Change};
use crate::managed::Writer;
use crate::{negotiate, scale};

/// The type of a subresource's own kind.
fn type_of(api_version: &str, kind: &str) -> Result<&'static Arc<Type>, ApiError> {
    let found = Schema::builtin().type_for_kind(api_version, kind);
    found.ok_or_else(|| ApiError::internal(format!("the table lacks {api_version} {kind}")))
}

impl Call<'_> {
    /// The `Scale` of an object.
    pub fn scale_of(&self, object: &Object) -> Value {
        scale::get(&object.to_value())
    }

    /// Sets the number of replicas, by PUT.
    pub async fn update_scale(&self, body: &[u8]) -> Result<Value, ApiError> {
        let wanted = self.decode(type_of("autoscaling/v1", "Scale")?, body)?;
        self.apply_scale(&|_: &Value| Ok(wanted.clone())).await
    }

    /// Sets the number of replicas, by PATCH.
    pub async fn patch_scale(&self, body: &[u8]) -> Result<Value, ApiError> {
        let patch = Patch::parse(negotiate::patch_type(self.headers)?, body)?;
        let ty = type_of("autoscaling/v1", "Scale")?;
        self.apply_scale(&|scale: &Value| patch.apply(ty, scale)).await
    }

    async fn apply_scale(
        &self,
        change: &(dyn Fn(&Value) -> Result<Value, ApiError> + Sync),
    ) -> Result<Value, ApiError> {
        let dry_run = self.dry_run()?;
        let writer = &Writer::of(self)?;
        let name = &self.info.name;
        let object = self
            .modify(name, dry_run, |current| async move {
                let scale = self.scale_of(&current);
                let wanted = change(&scale)?;
                let version = meta::resource_version(&wanted);
                if !version.is_empty() && version != meta::resource_version(&scale) {
                    return Err(ApiError::modified(self.group(), self.plural(), name));
                }
                let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
                if replicas < 0 {
                    let path = field::Path::new("spec").child("replicas");
                    let error = field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
                    return Err(ApiError::invalid("autoscaling", "Scale", name, &[error]));
                }
                let mut value = self.to_served(&current);
                scale::set(&mut value, replicas);
                self.replace(&current, value, Part::Main, dry_run, writer).await
            })
            .await?
            .object;
        Ok(self.scale_of(&object))
    }

    /// Assigns a pod to a node (`pods/binding`, and POST to `bindings`).
    pub async fn bind(&self, body: &[u8]) -> Result<(), ApiError> {
        let binding = self.decode(type_of("v1", "Binding")?, body)?;
        let name = if self.info.name.is_empty() { meta::name(&binding) } else { &self.info.name };
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        let target = field::Path::new("target");
        let mut errors = Vec::new();
        match binding["target"]["kind"].as_str().unwrap_or_default() {
            "" | "Node" => {}
            kind => errors.push(field::Error::not_supported(&target.child("kind"), kind, &["Node", "<empty>"])),
        }
        if node.is_empty() {
            errors.push(field::Error::required(&target.child("name"), ""));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Binding", name, &errors));
        }
        let dry_run = self.dry_run()?;
        // Also where it is posted to `bindings`: plugins for pods must not take it for one.
        let attributes =
            Attributes { subresource: "binding", ..self.attributes(Operation::Create, name, &Value::Null, dry_run) };
        let mut admitted = binding.clone();
        self.server.admission.admit(&attributes, &mut admitted, None).await?;
        self.server.admission.validate(&attributes, Some(&admitted), None).await?;
        let admitted = &admitted;
        self.modify(name, dry_run, |current| async move { self.plan_binding(&current, admitted, node) }).await?;
        Ok(())
    }

    fn plan_binding(&self, current: &Object, binding: &Value, node: &str) -> Result<Change<'static>, ApiError> {
        let mut pod = current.to_value();
        let name = current.name();
        let conflict = |detail: &str| Err(ApiError::conflict("", "pods/binding", name, detail));
        let uid = meta::uid(binding);
        if !uid.is_empty() && uid != meta::uid(&pod) {
            return conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(&pod)
            ));
        }
        if meta::deletion_timestamp(&pod).is_some() {
            return conflict(&format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        if let Some(assigned) = pod["spec"]["nodeName"].as_str().filter(|assigned| !assigned.is_empty()) {
            return conflict(&format!("pod {name} is already assigned to node {assigned:?}"));
        }
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        pod["spec"]["nodeName"] = node.into();
        for (key, value) in meta::annotations(binding).into_iter().flatten() {
            meta::set_annotation(&mut pod, key, value.as_str().unwrap_or_default());
        }
        for (key, value) in meta::labels(binding).into_iter().flatten() {
            meta::set_label(&mut pod, key, value.as_str().unwrap_or_default());
        }
        set_condition(&mut pod, "PodScheduled", "True");
        Ok(pod.into())
    }

    /// Evicts a pod, if its disruption budgets allow it (Kubernetes documentation, "API-initiated eviction").
    pub async fn evict(&self, body: &[u8]) -> Result<(), ApiError> {
        let eviction = self.decode(type_of("policy/v1", "Eviction")?, body)?;
        let name = &self.info.name;
        if !meta::name(&eviction).is_empty() && meta::name(&eviction) != name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = Options::from_value(eviction["deleteOptions"].clone());
        let pod = self.current(name).await?.to_value();
        let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
        if !finished && meta::deletion_timestamp(&pod).is_none() {
            self.spend_budget(&pod).await?;
        }
        let deleted: Deleted = self.delete(name, &options).await?;
        drop(deleted);
        Ok(())
    }

    async fn spend_budget(&self, pod: &Value) -> Result<(), ApiError> {
        let resource = reader::GroupResource::new("policy", "poddisruptionbudgets");
        let all = reader::Reader::list(&self.server.store, resource, Some(&self.info.namespace));
        let matching: Vec<_> = all
            .into_iter()
            .filter(|budget| {
                labels::Selector::from_label_selector(budget["spec"].get("selector"))
                    .is_ok_and(|selector| selector.matches_object(pod))
            })
            .collect();
        let budget = match matching.as_slice() {
            [] => return Ok(()),
            [budget] => budget,
            _ => {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let served = self.server.resources.builtin_resource("policy", "poddisruptionbudgets");
        let mut info = self.info.clone();
        (info.resource, info.subresource, info.group) =
            ("poddisruptionbudgets".into(), "status".into(), "policy".into());
        let call = Call { served, info: &info, warnings: Default::default(), ..*self };
        let pod_name = meta::name(pod);
        call.modify(meta::name(budget), self.dry_run()?, |current| async move { plan_disruption(&current, pod_name) })
            .await?;
        Ok(())
    }

    /// Replaces `spec.finalizers` of a namespace.
    pub async fn finalize(&self, body: &[u8]) -> Result<Arc<Object>, ApiError> {
        let wanted = self.decode(&self.served.resource.ty, body)?;
        let dry_run = self.dry_run()?;
        let version = meta::resource_version(&wanted).to_owned();
        let (wanted, version) = (&wanted, version.as_str());
        let change = |current: Arc<Object>| async move {
            let mut namespace = current.to_value();
            if !version.is_empty() && version != meta::resource_version(&namespace) {
                return Err(ApiError::modified(self.group(), self.plural(), current.name()));
            }
            namespace["spec"]["finalizers"] = match &wanted["spec"]["finalizers"] {
                Value::Null => json!([]),
                finalizers => finalizers.clone(),
            };
            Ok(if super::write::is_released(&namespace) { Change::Delete } else { namespace.into() })
        };
        Ok(self.modify(&self.info.name, dry_run, change).await?.object)
    }
}

fn plan_disruption(current: &Object, pod: &str) -> Result<Change<'static>, ApiError> {
    let mut budget = current.to_value();
    let refuse = |detail: &str| {
        let error =
            ApiError::new(Reason::TooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.");
        Err(error.with_cause("DisruptionBudget", "", detail))
    };
    if budget["status"]["observedGeneration"].as_i64().unwrap_or(0) < meta::generation(&budget) {
        let name = meta::name(&budget);
        return refuse(&format!("The disruption budget {name} is still being processed by the server."))
            .map_err(|e| e.retry_after(10));
    }
    let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
    if allowed <= 0 {
        let name = meta::name(&budget);
        let (needed, have) = (&budget["status"]["desiredHealthy"], &budget["status"]["currentHealthy"]);
        return refuse(&format!("The disruption budget {name} needs {needed} healthy pods and has {have} currently"));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = time::now_rfc3339().into();
    Ok(budget.into())
}

/// Sets a condition of a status, with the time of its last change.
fn set_condition(object: &mut Value, kind: &str, status: &str) {
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(condition) if condition["status"] == status => {}
        Some(condition) => {
            *condition = json!({"type": kind, "status": status, "lastTransitionTime": time::now_rfc3339()});
        }
        None => conditions.push(json!({"type": kind, "status": status, "lastTransitionTime": time::now_rfc3339()})),
    }
}
