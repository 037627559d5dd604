//! What objects use of the resources that quotas limit: pure.

use std::sync::Arc;

use component_base::quota::{Amounts, Object, add, counted, number, scopes};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};

/// The objects of a namespace.
pub struct Objects<'a> {
    pub pods: &'a [Arc<Pod>],
    pub services: &'a [Arc<Service>],
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// The number of objects of a resource (`configmaps`, `deployments.apps`); `None` if it is not known (yet).
    pub count: &'a dyn Fn(&str) -> Option<usize>,
}

/// How much is used of what a quota limits; without what cannot be known yet.
pub fn usage(quota: &ResourceQuota, objects: &Objects<'_>, now: Timestamp) -> Amounts {
    let spec = quota.spec.clone().unwrap_or_default();
    let names: Vec<&String> = spec.hard.iter().flatten().map(|(name, _)| name).collect();
    let is_scoped = scopes::is_scoped(&spec);
    let pods = objects.pods.iter().map(|pod| Object::Pod(pod));
    let services = objects.services.iter().map(|service| Object::Service(service));
    let claims = objects.claims.iter().map(|claim| Object::Claim(claim));
    let mut all = Amounts::new();
    for object in pods.chain(services).chain(claims).filter(|object| scopes::selects(&spec, *object)) {
        add(&mut all, object.usage(now));
    }
    let amount = |name: &String| match counted(name) {
        // Objects of other resources are in no scope.
        Some(resource) if !is_scoped && !all.contains_key(name) => (objects.count)(resource).map(number),
        _ => Some(all.get(name).copied().unwrap_or_else(|| number(0))),
    };
    names.into_iter().filter_map(|name| Some((name.clone(), amount(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn shown(amounts: &Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    fn pod(spec: Value, phase: &str) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({ "spec": spec, "status": { "phase": phase } })).unwrap())
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests, "limits": limits } })
    }

    fn used(limits: &[&str], objects: &Objects<'_>, more: Value) -> Vec<String> {
        let hard: BTreeMap<&str, &str> = limits.iter().map(|name| (*name, "10")).collect();
        let mut spec = json!({ "hard": hard });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let quota = serde_json::from_value(json!({ "spec": spec })).unwrap();
        shown(&usage(&quota, objects, Timestamp::from_second(1000).unwrap()))
    }

    fn objects<'a>(pods: &'a [Arc<Pod>], count: &'a dyn Fn(&str) -> Option<usize>) -> Objects<'a> {
        Objects { pods, services: &[], claims: &[], count }
    }

    #[test]
    fn pods_use_what_they_ask_for_until_they_have_ended() {
        let asks = json!({ "containers": [
            container(json!({ "cpu": "500m", "memory": "1Gi", "example.com/gpu": "2" }), json!({ "cpu": "1" })),
            container(json!({ "cpu": "250m" }), json!({})),
        ], "overhead": { "cpu": "50m" } });
        let pods = [pod(asks.clone(), "Running"), pod(asks.clone(), "Pending"), pod(asks, "Succeeded")];
        let limits = [
            "pods",
            "cpu",
            "requests.cpu",
            "limits.cpu",
            "requests.memory",
            "requests.example.com/gpu",
            "limits.memory",
        ];
        assert_eq!(
            used(&limits, &objects(&pods, &|_| None), json!({})),
            [
                "cpu=1600m",
                "limits.cpu=2100m",
                "limits.memory=0",
                "pods=2",
                "requests.cpu=1600m",
                "requests.example.com/gpu=4",
                "requests.memory=2Gi"
            ]
        );
    }

    #[test]
    fn the_largest_moment_of_initialization_counts() {
        let init = |cpu: &str, policy: Value| json!({ "name": "i", "restartPolicy": policy, "resources": { "requests": { "cpu": cpu } } });
        for (inits, expected) in [
            (json!([init("2", Value::Null)]), "cpu=2"),
            (json!([init("1", json!("Always"))]), "cpu=1500m"),
            (json!([init("1", json!("Always")), init("2", Value::Null)]), "cpu=3"),
        ] {
            let spec =
                json!({ "containers": [container(json!({ "cpu": "500m" }), json!({}))], "initContainers": inits });
            assert_eq!(used(&["cpu"], &objects(&[pod(spec, "Running")], &|_| None), json!({})), [expected], "{inits}");
        }
    }

    #[test]
    fn objects_are_counted_by_resource() {
        let count = |resource: &str| match resource {
            "configmaps" => Some(3),
            "deployments.apps" => Some(7),
            _ => None,
        };
        let limits = ["configmaps", "count/configmaps", "count/deployments.apps", "count/unknown.example.com"];
        assert_eq!(
            used(&limits, &objects(&[], &count), json!({})),
            ["configmaps=3", "count/configmaps=3", "count/deployments.apps=7"]
        );
        let service = |type_: &str| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(json!({ "spec": { "type": type_, "ports": [{ "port": 1 }, { "port": 2 }] } }))
                    .unwrap(),
            )
        };
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "5Gi" } } }
        }))
        .unwrap();
        let services = ["ClusterIP", "NodePort", "LoadBalancer"].map(service);
        let objects = Objects { pods: &[], services: &services, claims: &[Arc::new(claim)], count: &count };
        let limits = [
            "services",
            "services.nodeports",
            "services.loadbalancers",
            "persistentvolumeclaims",
            "fast.storageclass.storage.k8s.io/requests.storage",
        ];
        assert_eq!(
            used(&limits, &objects, json!({})),
            [
                "fast.storageclass.storage.k8s.io/requests.storage=5Gi",
                "persistentvolumeclaims=1",
                "services=3",
                "services.loadbalancers=1",
                "services.nodeports=4"
            ]
        );
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = [
            pod(json!({ "containers": [container(json!({ "cpu": "1" }), json!({}))] }), "Running"),
            pod(
                json!({ "containers": [{ "name": "c" }], "activeDeadlineSeconds": 60, "priorityClassName": "high" }),
                "Running",
            ),
        ];
        for (scopes, expected) in [
            (json!({ "scopes": ["Terminating"] }), "pods=1"),
            (json!({ "scopes": ["NotTerminating", "BestEffort"] }), "pods=0"),
            (json!({ "scopes": ["NotBestEffort"] }), "pods=1"),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] } }),
                "pods=1",
            ),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"] }] } }),
                "pods=1",
            ),
            (
                json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["low"] }] } }),
                "pods=0",
            ),
        ] {
            assert_eq!(used(&["pods"], &objects(&pods, &|_| None), scopes.clone()), [expected], "{scopes}");
        }
    }
}
