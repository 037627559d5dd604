//! ClusterRoles with an aggregation rule have the rules of all ClusterRoles that it selects.

use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

use crate::context::Context;
use crate::ownership;

struct Aggregation {
    client: Client,
    roles: Store<ClusterRole>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("clusterrole-aggregation-controller").await?;
    let roles = ctx.informers.get::<ClusterRole>();
    let queue = WorkQueue::new();
    let (keys, store) = (queue.clone(), roles.store());
    // Any change may concern every aggregating role: there are a few of them.
    roles.on_change(move |change| {
        for role in store.list().iter().filter(|role| role.aggregation_rule.is_some()) {
            keys.add(Key::of(role.as_ref()));
        }
        keys.add(change.key());
    });
    roles.synced().await;
    let controller = Aggregation { client, roles: roles.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

/// The rules that the role ought to have, or `None` if it has them or does not aggregate.
fn plan<'a>(role: &ClusterRole, all: impl Iterator<Item = &'a ClusterRole> + Clone) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.iter().filter_map(|s| ownership::selector(Some(s))) {
        let selected = all.clone().filter(|other| ownership::matches(&selector, &other.metadata));
        for rule in
            selected.filter(|other| other.metadata.name != role.metadata.name).flat_map(|o| o.rules.iter().flatten())
        {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

#[async_trait]
impl Controller for Aggregation {
    type Key = Key;

    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(role) = self.roles.get(key) else { return Ok(Requeue::No) };
        // By name, so that the result does not depend on the order of events.
        let all = self.roles.list();
        let Some(rules) = plan(&role, all.iter().map(AsRef::as_ref)) else { return Ok(Requeue::No) };
        let version = role.metadata.resource_version.as_deref();
        let patch = Patch::Merge(serde_json::json!({"metadata": {"resourceVersion": version}, "rules": rules}));
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        unless_gone(api.patch(&key.name, &PatchParams::default(), &patch).await)?;
        Ok(Requeue::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(value: serde_json::Value) -> ClusterRole {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn selected_rules_are_united_without_doubles() {
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let labels = json!({"aggregate": "true"});
        let parts = [
            role(json!({"metadata": {"name": "a", "labels": labels}, "rules": [rule("pods"), rule("nodes")]})),
            role(json!({"metadata": {"name": "b", "labels": labels}, "rules": [rule("pods")]})),
            role(json!({"metadata": {"name": "c"}, "rules": [rule("secrets")]})),
        ];
        let selectors = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        let mut sum = role(
            json!({"metadata": {"name": "sum", "labels": labels}, "aggregationRule": selectors, "rules": [rule("x")]}),
        );
        let rules = plan(&sum, parts.iter().chain([&sum.clone()])).unwrap();
        let resources: Vec<_> = rules.iter().flat_map(|r| r.resources.clone().unwrap()).collect();
        assert_eq!(resources, ["pods", "nodes"], "its own rules are not its source");
        sum.rules = Some(rules);
        assert_eq!(plan(&sum, parts.iter()), None);
        assert_eq!(plan(&parts[0], parts.iter()), None);
    }
}
