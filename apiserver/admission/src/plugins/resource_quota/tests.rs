use serde_json::json;

use super::*;
use crate::testing::{State, attributes, observe};

fn plugin(quotas: &[Value], limited: Value) -> (Arc<State>, Arc<ResourceQuota>) {
    let state = Arc::new(State::default());
    let configuration = serde_json::from_value(json!({"limitedResources": limited})).expect("a configuration");
    let clock = apiserver_auth::clock::system();
    let plugin = Arc::new(ResourceQuota::new(state.clone(), state.clone(), clock, configuration));
    for quota in quotas {
        observe(&*plugin, QUOTAS, quota);
        state.put("resourcequotas", quota.clone());
    }
    (state, plugin)
}

/// A quota of which some is used.
fn quota(name: &str, spec: Value, hard: Value, used: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "dev", "resourceVersion": "1", "uid": name});
    json!({"metadata": metadata, "spec": spec, "status": {"hard": hard, "used": used}})
}

fn pod(spec: Value, requests: Value) -> Value {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "c", "resources": {"requests": requests}}]);
    json!({"metadata": {"name": "p", "namespace": "dev"}, "spec": spec})
}

fn used(state: &State, name: &str) -> Value {
    state.get(QUOTAS, "dev", name).expect("the quota")["status"]["used"].clone()
}

async fn create(plugin: &ResourceQuota, group: &str, resource: &str, object: &Value) -> Result<(), String> {
    let a = attributes(Operation::Create, group, resource);
    assert!(plugin.handles(&a));
    plugin.validate(&a, Some(object), None).await.map_err(|error| error.0.message)
}

#[tokio::test]
async fn what_exceeds_a_quota_is_refused_with_amounts() {
    let hard = json!({"cpu": "1", "pods": "2"});
    let (state, plugin) = plugin(&[quota("q", json!({}), hard, json!({"cpu": "250m", "pods": "0"}))], json!([]));
    let small = pod(json!({}), json!({"cpu": "500m"}));
    assert_eq!(create(&plugin, "", "pods", &small).await, Ok(()));
    assert_eq!(used(&state, "q"), json!({"cpu": "750m", "pods": "1"}));
    let refusal =
        "pods \"p\" is forbidden: exceeded quota: q, requested: cpu=500m, used: cpu=750m, limited: cpu=1".to_owned();
    assert_eq!(create(&plugin, "", "pods", &small).await, Err(refusal));
    let bare = "pods \"p\" is forbidden: failed quota: q: must specify cpu for: c".to_owned();
    assert_eq!(create(&plugin, "", "pods", &pod(json!({}), json!({}))).await, Err(bare));
    assert_eq!(create(&plugin, "", "configmaps", &json!({"metadata": {"name": "c"}})).await, Ok(()));
    let mut a = attributes(Operation::Create, "", "pods");
    a.dry_run = true;
    let tiny = pod(json!({}), json!({"cpu": "1m"}));
    assert_eq!(plugin.validate(&a, Some(&tiny), None).await, Ok(()));
    assert_eq!(used(&state, "q"), json!({"cpu": "750m", "pods": "1"}), "a trial costs nothing");
}

#[tokio::test]
async fn a_quota_that_was_not_counted_yet_lets_nothing_in() {
    let (_, plugin) = plugin(&[quota("q", json!({}), json!({"configmaps": "1", "pods": "1"}), json!({}))], json!([]));
    let refusal = "configmaps \"c\" is forbidden: status unknown for quota: q, resources: configmaps".to_owned();
    assert_eq!(create(&plugin, "", "configmaps", &json!({"metadata": {"name": "c"}})).await, Err(refusal));
    assert_eq!(create(&plugin, "", "secrets", &json!({"metadata": {"name": "c"}})).await, Ok(()));
}

#[tokio::test]
async fn requests_at_the_same_time_never_overrun() {
    let hard = json!({"count/widgets.example.com": "10", "pods": "10"});
    let quotas = [
        quota("a", json!({}), hard, json!({"count/widgets.example.com": "0", "pods": "0"})),
        quota("b", json!({}), json!({"pods": "7"}), json!({"pods": "0"})),
    ];
    let (state, first) = plugin(&quotas, json!([]));
    // Another server, which shares the store alone.
    let clock = apiserver_auth::clock::system();
    let second = Arc::new(ResourceQuota::new(state.clone(), state.clone(), clock, Configuration::default()));
    quotas.iter().for_each(|quota| observe(&*second, QUOTAS, quota));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let plugin = if n % 2 == 0 { first.clone() } else { second.clone() };
        tasks.spawn(async move { create(&plugin, "", "pods", &pod(json!({}), json!({}))).await.is_ok() });
    }
    let admitted = tasks.join_all().await.into_iter().filter(|admitted| *admitted).count();
    assert_eq!((admitted, used(&state, "b")), (7, json!({"pods": "7"})));
    // One that fits here and then not there stays charged here until it is counted again.
    assert!(["7", "10"].contains(&used(&state, "a")["pods"].as_str().expect("an amount")));
}

#[tokio::test]
async fn updates_are_charged_by_difference() {
    let hard = json!({"services.nodeports": "3", "requests.storage": "3Gi"});
    let (state, plugin) = plugin(
        &[quota("q", json!({}), hard, json!({"services.nodeports": "1", "requests.storage": "1Gi"}))],
        json!([]),
    );
    let service = |ports: usize| {
        let ports: Vec<Value> = (0..ports).map(|n| json!({"port": n + 1})).collect();
        json!({"metadata": {"name": "s", "namespace": "dev"}, "spec": {"type": "NodePort", "ports": ports}})
    };
    let a = attributes(Operation::Update, "", "services");
    assert!(plugin.handles(&a));
    assert_eq!(plugin.validate(&a, Some(&service(3)), Some(&service(1))).await, Ok(()));
    assert_eq!(used(&state, "q")["services.nodeports"], "3");
    let error = plugin.validate(&a, Some(&service(4)), Some(&service(3))).await.expect_err("refused");
    assert!(
        error
            .0
            .message
            .ends_with("requested: services.nodeports=1, used: services.nodeports=3, limited: services.nodeports=3")
    );
    assert_eq!(plugin.validate(&a, Some(&service(1)), Some(&service(3))).await, Ok(()), "less is always possible");
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}});
    let a = attributes(Operation::Update, "", "persistentvolumeclaims");
    assert_eq!(plugin.validate(&a, Some(&claim("3Gi")), Some(&claim("1Gi"))).await, Ok(()));
    assert_eq!(used(&state, "q")["requests.storage"], "3Gi");
    assert!(plugin.validate(&a, Some(&claim("4Gi")), Some(&claim("3Gi"))).await.is_err());
}

#[tokio::test]
async fn scopes_choose_what_is_charged() {
    let full = json!({"pods": "0"});
    let class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    let plain = pod(json!({}), json!({}));
    let urgent = pod(json!({"priorityClassName": "high"}), json!({"cpu": "1"}));
    let affine = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "k", "namespaces": ["x"]}]}});
    let reaching = pod(json!({"affinity": affine}), json!({}));
    for (spec, object, charged) in [
        (json!({"scopes": ["BestEffort"]}), &plain, true),
        (json!({"scopes": ["BestEffort"]}), &urgent, false),
        (json!({"scopes": ["NotBestEffort", "NotTerminating"]}), &urgent, true),
        (json!({"scopes": ["Terminating"]}), &plain, false),
        (class("In", json!(["high"])), &urgent, true),
        (class("In", json!(["high"])), &plain, false),
        (class("NotIn", json!(["high"])), &plain, true),
        (class("Exists", json!([])), &plain, false),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), &reaching, true),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), &plain, false),
    ] {
        let (_, plugin) = plugin(&[quota("q", spec.clone(), full.clone(), full.clone())], json!([]));
        assert_eq!(create(&plugin, "", "pods", object).await.is_err(), charged, "{spec} {object}");
    }
}

#[tokio::test]
async fn what_is_limited_by_configuration_needs_a_quota() {
    let scope = json!([{"scopeName": "PriorityClass", "operator": "In", "values": ["high", "top"]}]);
    let limited = json!([
        {"resource": "pods", "matchScopes": scope},
        {"resource": "persistentvolumeclaims", "matchContains": [".storageclass.storage.k8s.io/requests.storage"]},
    ]);
    let urgent = pod(json!({"priorityClassName": "high"}), json!({}));
    let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    let (_, bare) = plugin(&[], limited.clone());
    assert_eq!(
        create(&bare, "", "pods", &urgent).await,
        Err("pods \"p\" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [high top]}]".into())
    );
    assert_eq!(create(&bare, "", "pods", &pod(json!({}), json!({}))).await, Ok(()));
    assert_eq!(
        create(&bare, "", "persistentvolumeclaims", &claim).await,
        Err("persistentvolumeclaims \"c\" is forbidden: insufficient quota to consume: \
             fast.storageclass.storage.k8s.io/requests.storage"
            .into())
    );
    let spec = json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
    let covering = quota("q", spec, json!({"pods": "1"}), json!({"pods": "0"}));
    let class = "fast.storageclass.storage.k8s.io/requests.storage";
    let storage = quota("s", json!({}), json!({class: "1Gi"}), json!({class: "0"}));
    let (_, covered) = plugin(&[covering, storage], limited);
    assert_eq!(create(&covered, "", "pods", &urgent).await, Ok(()));
    assert_eq!(create(&covered, "", "persistentvolumeclaims", &claim).await, Ok(()));
    assert!(create(&covered, "", "persistentvolumeclaims", &claim).await.is_err());
}

#[test]
fn what_cannot_change_usage_is_not_looked_at() {
    let (_, plugin) = plugin(&[], json!([]));
    for (operation, resource, subresource) in [
        (Operation::Update, "pods", ""),
        (Operation::Update, "services", "status"),
        (Operation::Create, "pods", "binding"),
        (Operation::Create, "events", ""),
        (Operation::Create, "namespaces", ""),
        (Operation::Create, "nodes", ""),
        (Operation::Delete, "pods", ""),
    ] {
        let mut a = attributes(operation, "", resource);
        a.subresource = subresource;
        assert!(!plugin.handles(&a), "{operation:?} {resource} {subresource}");
    }
}
