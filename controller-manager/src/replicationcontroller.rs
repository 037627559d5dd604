//! ReplicationControllers: what ReplicaSets were before there were Deployments.

use component_base::runner::Error;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use kube::core::Selector;

use crate::children::Owner;
use crate::context::Context;
use crate::replicaset::{Desired, Replicated, start_for};

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let workers = ctx.options.controllers.concurrent_rc_syncs;
    start_for::<ReplicationController>(ctx, workers).await
}

impl Owner for ReplicationController {
    fn selector(&self) -> Option<Selector> {
        let labels = self.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
        Some(labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller-controller";
    const COMPONENT: &'static str = "replication-controller";

    fn desired(&self) -> Desired {
        let spec = self.spec.clone().unwrap_or_default();
        Desired {
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            template: spec.template.unwrap_or_default(),
        }
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.map(|all| {
            all.into_iter()
                .map(|one| ReplicaSetCondition {
                    type_: one.type_,
                    status: one.status,
                    reason: one.reason,
                    message: one.message,
                    last_transition_time: one.last_transition_time,
                })
                .collect()
        });
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            terminating_replicas: None,
            conditions,
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let conditions = status.conditions.map(|all| {
            all.into_iter()
                .map(|one| ReplicationControllerCondition {
                    type_: one.type_,
                    status: one.status,
                    reason: one.reason,
                    message: one.message,
                    last_transition_time: one.last_transition_time,
                })
                .collect()
        });
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
        };
        Self { status: Some(status), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_status_can_say_is_kept() {
        let controller = ReplicationController::default();
        let status: ReplicaSetStatus = serde_json::from_value(json!({
            "replicas": 3, "readyReplicas": 2, "observedGeneration": 4, "terminatingReplicas": 1,
            "conditions": [{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota" }],
        }))
        .unwrap();
        let expected = ReplicaSetStatus { terminating_replicas: None, ..status.clone() };
        assert_eq!(controller.with_status(status).status(), expected);
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert!(ReplicationController::default().selector().is_none());
        let controller: ReplicationController =
            serde_json::from_value(json!({ "spec": { "selector": { "app": "web" } } })).unwrap();
        let labels = std::collections::BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert!(kube::core::SelectorExt::matches(&controller.selector().unwrap(), &labels));
    }
}
