//! Says in the status of each ValidatingAdmissionPolicy which of its expressions do not fit the types that it is about.
//!
//! Kubernetes documentation, "Validating Admission Policy", type checking; KEP-3488.

use apimachinery::schema::{Resource, Schema};
use apiserver_cel::check::{DYN, Scope, Ty, check};
use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::context::Context;

/// How many types a policy is checked with at most.
const TYPES_MAX: usize = 10;

struct PolicyStatus {
    client: Client,
    policies: Store<ValidatingAdmissionPolicy>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("validatingadmissionpolicy-status-controller").await?;
    let policies = ctx.informers.get::<ValidatingAdmissionPolicy>();
    let queue = ctx.keys_of(&policies);
    policies.synced().await;
    let controller = PolicyStatus { client, policies: policies.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn texts<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v str> {
    items(value, field).iter().filter_map(Value::as_str)
}

/// The built-in resources that the rules name outright: of those with a `*`, and of subresources, nothing is checked.
fn resources(spec: &Value) -> Vec<&'static Resource> {
    let mut found: Vec<&Resource> = Vec::new();
    for rule in items(&spec["matchConstraints"], "resourceRules") {
        for group in texts(rule, "apiGroups") {
            for version in texts(rule, "apiVersions") {
                let named = texts(rule, "resources");
                let known = named.filter_map(|resource| Schema::builtin().resource(group, version, resource));
                found.extend(known.map(|resource| &**resource));
            }
        }
    }
    found.sort_by_key(|resource| (resource.api_version(), resource.kind.clone()));
    found.dedup_by_key(|resource| (resource.api_version(), resource.kind.clone()));
    found.truncate(TYPES_MAX);
    found
}

/// What expressions of the policy see where it is about a resource.
fn scope(spec: &Value, resource: &Resource) -> Scope {
    let object = Ty::Object(resource.ty.clone());
    let mut scope = Scope::of(&["request"])
        .with("object", object.clone())
        .with("oldObject", object)
        .with("authorizer", Ty::Named("authorizer"))
        .with("authorizer.requestResource", Ty::Named("resourcecheck"));
    if let Some(namespaces) = Schema::builtin().resource("", "v1", "namespaces") {
        scope = scope.with("namespaceObject", Ty::Object(namespaces.ty.clone()));
    }
    let kind = &spec["paramKind"];
    if kind.is_object() {
        let text = |field: &str| kind[field].as_str().unwrap_or_default();
        let ty = Schema::builtin().type_for_kind(text("apiVersion"), text("kind"));
        scope = scope.with("params", ty.map_or(DYN, |ty| Ty::Object(ty.clone())));
    }
    let mut variables: Vec<(String, Ty)> = Vec::new();
    for variable in items(spec, "variables") {
        let text = |field: &str| variable[field].as_str().unwrap_or_default();
        let known = scope.clone().with("variables", Ty::Fields(variables.clone()));
        variables.push((text("name").to_owned(), check(text("expression"), &known).unwrap_or(DYN)));
    }
    scope.with("variables", Ty::Fields(variables))
}

/// What is wrong with an expression, by each type with which it is.
fn warning(expression: &str, scopes: &[(String, Scope)]) -> Option<String> {
    let wrong =
        |(kind, scope): &(String, Scope)| check(expression, scope).err().map(|error| format!("{kind}: {error}"));
    let found: Vec<String> = scopes.iter().filter_map(wrong).collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// The status that the policy ought to have, or `None` if it was written for this spec.
fn plan(policy: &Value) -> Option<Value> {
    let generation = &policy["metadata"]["generation"];
    if policy["status"]["observedGeneration"] == *generation {
        return None;
    }
    let spec = &policy["spec"];
    let scopes: Vec<(String, Scope)> = resources(spec)
        .into_iter()
        .map(|resource| (format!("{}, Kind={}", resource.api_version(), resource.kind), scope(spec, resource)))
        .collect();
    let mut warnings: Vec<Value> = Vec::new();
    for (i, validation) in items(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation[field].as_str().filter(|text| !text.trim().is_empty());
            let found = text.and_then(|text| warning(text, &scopes));
            let entry = |warning| json!({"fieldRef": format!("spec.validations[{i}].{field}"), "warning": warning});
            warnings.extend(found.map(entry));
        }
    }
    let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    Some(json!({"observedGeneration": generation, "typeChecking": checking}))
}

#[async_trait]
impl Controller for PolicyStatus {
    type Key = Key;

    fn name(&self) -> &'static str {
        "validatingadmissionpolicy-status-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(policy) = self.policies.get(key) else { return Ok(Requeue::No) };
        let Some(status) = plan(&serde_json::to_value(policy.as_ref())?) else { return Ok(Requeue::No) };
        let version = policy.metadata.resource_version.as_deref();
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": status}));
        let api: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        unless_gone(api.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
        Ok(Requeue::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(validation: Value) -> Value {
        let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["deployments", "deployments/scale", "*"]});
        json!({"metadata": {"name": "p", "generation": 2}, "status": {"observedGeneration": 1},
            "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation],
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "n", "expression": "object.spec.replicas"}]}})
    }

    #[test]
    fn expressions_that_do_not_fit_their_types_are_named() {
        let right = policy(json!({"expression": "variables.n > 1 && params.data['max'] == 'a'"}));
        assert_eq!(plan(&right), Some(json!({"observedGeneration": 2, "typeChecking": {}})));
        let wrong = policy(json!({"expression": "object.foo", "messageExpression": "'got ' + variables.n"}));
        let status = plan(&wrong).expect("a status");
        let warnings = items(&status["typeChecking"], "expressionWarnings");
        assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
        assert_eq!(
            warnings[0]["warning"],
            "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo\n | ......^"
        );
        assert_eq!(warnings[1]["fieldRef"], "spec.validations[0].messageExpression");
        let text = warnings[1]["warning"].as_str().unwrap_or_default();
        assert!(text.contains("found no matching overload for '_+_' applied to '(string, int)'"), "{text}");
    }

    #[test]
    fn a_status_is_written_once_for_each_generation() {
        let mut policy = policy(json!({"expression": "true"}));
        policy["status"]["observedGeneration"] = 2.into();
        assert_eq!(plan(&policy), None);
    }
}
