//! Subresources that are small actions on an object: scale, binding, eviction, finalize, approval, and the parts of a pod that
//! may be changed while it runs.

use std::sync::Arc;

use apimachinery::schema::{Schema, Type};
use apimachinery::time::{self, Moment};
use apimachinery::{ApiError, Reason, labels, meta};
use apiserver_admission::{Attributes, Operation};
use apiserver_registry::custom::scale as custom_scale;
use apiserver_registry::{scale, subresources};
use apiserver_storage::{Object, reader};
use serde_json::{Value, json};

use super::delete::{Deleted, Options};
use super::patch::Patch;
use super::update::Part;
use super::write::{Call, Change};
use crate::managed::Writer;

/// The type of a subresource's own kind.
fn type_of(api_version: &str, kind: &str) -> Result<&'static Arc<Type>, ApiError> {
    let found = Schema::builtin().type_for_kind(api_version, kind);
    found.ok_or_else(|| ApiError::internal(format!("the table lacks {api_version} {kind}")))
}

impl Call<'_> {
    /// The `Scale` of an object.
    ///
    /// # Errors
    /// For a custom resource that does not say how many replicas it wants.
    pub fn scale_of(&self, object: &Object) -> Result<Value, ApiError> {
        let value = self.to_served(object);
        match self.scale_paths() {
            Some(paths) if custom_scale::at(&value, &paths.spec).is_none() => {
                let path = paths.spec.join(".");
                Err(ApiError::internal(format!("the spec replicas field \".{path}\" does not exist")))
            }
            _ => Ok(self.scale_of_served(&value)),
        }
    }

    /// The `Scale` of an object in the served version.
    pub fn scale_of_served(&self, object: &Value) -> Value {
        self.scale_paths().map_or_else(|| scale::of(object), |paths| scale::of_custom(object, paths))
    }

    /// An object in the served version with the number of replicas that a `Scale` wants.
    pub fn with_scale(&self, mut object: Value, scale: &Value) -> Value {
        let replicas = Value::from(scale["spec"]["replicas"].as_i64().unwrap_or(0));
        match self.scale_paths() {
            Some(paths) => custom_scale::set(&mut object, &paths.spec, replicas),
            None => object["spec"]["replicas"] = replicas,
        }
        object
    }

    fn scale_paths(&self) -> Option<&custom_scale::Paths> {
        self.served.custom.as_ref()?.version.scale.as_ref()
    }

    /// Sets the number of replicas, by PUT.
    pub async fn update_scale(&self, body: &[u8]) -> Result<Value, ApiError> {
        let wanted = self.decode(type_of("autoscaling/v1", "Scale")?, body)?;
        self.apply_scale(&|_: &Value| Ok(wanted.clone())).await
    }

    /// Sets the number of replicas, by PATCH.
    pub async fn patch_scale(&self, body: &[u8]) -> Result<Value, ApiError> {
        let patch = Patch::parse(self.patch_type()?, body)?;
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
                let scale = self.scale_of(&current)?;
                let wanted = change(&scale)?;
                let version = meta::resource_version(&wanted);
                if !version.is_empty() && version != meta::resource_version(&scale) {
                    return Err(ApiError::modified(self.group(), self.plural(), name));
                }
                let errors = scale::validate(&wanted);
                if !errors.is_empty() {
                    return Err(ApiError::invalid("autoscaling", "Scale", name, &errors));
                }
                let value = self.with_scale(self.to_served(&current), &wanted);
                self.replace(&current, value, Part::Main, dry_run, writer).await
            })
            .await?
            .object;
        self.scale_of(&object)
    }

    /// Assigns a pod to a node (`pods/binding`, and POST to `bindings`).
    pub async fn bind(&self, body: &[u8]) -> Result<(), ApiError> {
        let binding = self.decode(type_of("v1", "Binding")?, body)?;
        let name = if self.info.name.is_empty() { meta::name(&binding) } else { &self.info.name };
        let errors = subresources::validate_binding(&binding);
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Binding", name, &errors));
        }
        let dry_run = self.dry_run()?;
        // Also where it is posted to `bindings`: plugins for pods must not take it for one.
        let attributes =
            Attributes { subresource: "binding", ..self.attributes(Operation::Create, name, &Value::Null, dry_run) };
        let mut admitted = binding.clone();
        self.server.admission.admit(&attributes, &mut admitted, None).await?;
        self.warnings.add(self.server.admission.validate(&attributes, Some(&admitted), None).await?);
        let admitted = &admitted;
        self.modify(name, dry_run, |current| async move { plan_binding(&current, admitted) }).await?;
        Ok(())
    }

    /// Evicts a pod, if its disruption budgets allow it (Kubernetes documentation, "API-initiated eviction").
    pub async fn evict(&self, body: &[u8]) -> Result<(), ApiError> {
        let eviction = self.decode(type_of("policy/v1", "Eviction")?, body)?;
        let name = &self.info.name;
        if !meta::name(&eviction).is_empty() && meta::name(&eviction) != name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let dry_run = self.delete_dry_run(&Options::from_value(eviction["deleteOptions"].clone()))?;
        let eviction = self.admit_action(Operation::Create, eviction, dry_run).await?;
        let options = Options::from_value(eviction["deleteOptions"].clone());
        let pod = self.current(name).await?.to_value();
        let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
        if !finished && meta::deletion_timestamp(&pod).is_none() {
            self.spend_budget(&pod, dry_run).await?;
        }
        let deleted: Deleted = self.delete(name, &options).await?;
        drop(deleted);
        Ok(())
    }

    async fn spend_budget(&self, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
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
        if spares_budget(pod, budget) {
            return Ok(());
        }
        let served = self.server.resources.builtin_resource("policy", "poddisruptionbudgets");
        let mut info = self.info.clone();
        (info.resource, info.subresource, info.group) =
            ("poddisruptionbudgets".into(), "status".into(), "policy".into());
        let call = Call { served, info: &info, warnings: Default::default(), admitted: Default::default(), ..*self };
        let pod_name = meta::name(pod);
        call.modify(meta::name(budget), dry_run, |current| async move { plan_disruption(&current, pod_name) }).await?;
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
            self.check(current.name(), subresources::validate_finalize(&namespace, &current.to_value()))?;
            Ok(if super::write::is_released(&namespace) { Change::Delete } else { namespace.into() })
        };
        Ok(self.modify(&self.info.name, dry_run, change).await?.object)
    }
}

/// The pod on its node.
fn plan_binding(current: &Object, binding: &Value) -> Result<Change<'static>, ApiError> {
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
    if subresources::is_gated(&pod) {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    subresources::bind(&mut pod, binding, Moment::now());
    Ok(pod.into())
}

/// Whether a pod that is not ready may go without spending the budget (KEP-3017).
fn spares_budget(pod: &Value, budget: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    !ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_is_not_ready_goes_without_the_budget_when_enough_are_healthy() {
        let pod = |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let budget = |policy: &str, healthy: i64| json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": {"currentHealthy": healthy, "desiredHealthy": 2}});
        assert!(!spares_budget(&pod("True"), &budget("AlwaysAllow", 2)));
        assert!(spares_budget(&pod("False"), &budget("AlwaysAllow", 0)));
        assert!(spares_budget(&pod("False"), &budget("IfHealthyBudget", 2)));
        assert!(!spares_budget(&pod("False"), &budget("IfHealthyBudget", 1)));
        assert!(!spares_budget(&pod("False"), &json!({"spec": {}, "status": {}})), "no pods are wanted");
    }
}
