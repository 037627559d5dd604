//! Updates: what may change, what is kept, and when a generation ends.

use apiserver_registry::{Strategy, strategy, subresources};
use serde_json::{Value, json};

/// An object of the kind as it would be stored, with its defaults.
fn stored(group: &str, resource: &str, mut obj: Value) -> Value {
    obj["metadata"]["name"] = json!("x");
    obj["metadata"]["namespace"] = json!("default");
    obj["metadata"]["uid"] = json!("u");
    obj["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let strategy = strategy(group, resource);
    strategy.default(&mut obj);
    strategy.prepare_for_create(&mut obj);
    obj
}

/// A template of a workload's pods.
fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn deployment() -> Value {
    stored("apps", "deployments", json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}}))
}

fn pod() -> Value {
    stored(
        "",
        "pods",
        json!({"spec": {"containers": [{"name": "c", "image": "i:1"}], "tolerations": [{"key": "k", "operator": "Exists"}]}}),
    )
}

fn service() -> Value {
    let mut service = stored(
        "",
        "services",
        json!({"spec": {"type": "NodePort", "selector": {"app": "a"}, "ports": [{"port": 80}]}}),
    );
    service["spec"]["clusterIP"] = json!("10.0.0.1");
    service["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    service["spec"]["ports"][0]["nodePort"] = json!(30_080);
    service
}

/// The fields that an update with a change is refused for.
fn refused(group: &str, resource: &str, old: &Value, change: impl Fn(&mut Value)) -> Vec<String> {
    let mut obj = old.clone();
    change(&mut obj);
    let strategy = strategy(group, resource);
    strategy.default(&mut obj);
    strategy.prepare_for_update(&mut obj, old);
    let mut fields: Vec<String> = strategy.validate_update(&obj, old).into_iter().map(|e| e.field).collect();
    // Metadata is looked at several times, as Kubernetes does.
    fields.dedup();
    fields
}

#[test]
fn an_unchanged_object_is_accepted_and_keeps_its_generation() {
    for (group, resource, old) in
        [("apps", "deployments", deployment()), ("", "pods", pod()), ("", "services", service())]
    {
        assert_eq!(refused(group, resource, &old, |_| {}), Vec::<String>::new(), "{resource}");
        let mut obj = old.clone();
        strategy(group, resource).prepare_for_update(&mut obj, &old);
        assert_eq!(obj, old, "{resource}");
    }
}

#[test]
fn identity_cannot_change() {
    let old = deployment();
    let field =
        |name: &str, value: Value| refused("apps", "deployments", &old, |o| o["metadata"][name] = value.clone());
    assert_eq!(field("name", json!("y")), ["metadata.name"]);
    assert_eq!(field("uid", json!("other")), ["metadata.uid"]);
    assert_eq!(field("creationTimestamp", json!("2027-01-01T00:00:00Z")), ["metadata.creationTimestamp"]);
    assert_eq!(field("uid", Value::Null), Vec::<String>::new());
}

#[test]
fn an_object_being_deleted_takes_no_new_finalizer() {
    let mut old = deployment();
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    old["metadata"]["finalizers"] = json!(["a.b/c"]);
    let with = |list: Value| refused("apps", "deployments", &old, |o| o["metadata"]["finalizers"] = list.clone());
    assert_eq!(with(json!(["a.b/c", "a.b/d"])), ["metadata.finalizers"]);
    assert_eq!(with(json!([])), Vec::<String>::new());
}

#[test]
fn generations_count_what_is_wanted_and_not_what_is() {
    let old = deployment();
    let generation = |change: &dyn Fn(&mut Value)| {
        let mut obj = old.clone();
        change(&mut obj);
        strategy("apps", "deployments").prepare_for_update(&mut obj, &old);
        obj["metadata"]["generation"].as_i64().expect("a generation")
    };
    assert_eq!(generation(&|o| o["spec"]["replicas"] = json!(9)), 2);
    assert_eq!(generation(&|o| o["metadata"]["annotations"] = json!({"a": "b"})), 2);
    assert_eq!(generation(&|o| o["metadata"]["labels"] = json!({"a": "b"})), 1);
    assert_eq!(generation(&|o| o["status"] = json!({"replicas": 3})), 1);
    assert_eq!(generation(&|o| o["metadata"]["generation"] = json!(7)), 1);
}

#[test]
fn spec_and_status_have_a_door_each() {
    let old = deployment();
    let mut through_spec = old.clone();
    through_spec["status"] = json!({"replicas": 3});
    strategy("apps", "deployments").prepare_for_update(&mut through_spec, &old);
    assert_eq!(through_spec["status"], old["status"]);
    let mut through_status = old.clone();
    through_status["status"] = json!({"replicas": 3});
    through_status["spec"]["replicas"] = json!(9);
    strategy("apps", "deployments").prepare_for_status_update(&mut through_status, &old);
    assert_eq!(through_status["spec"], old["spec"]);
    assert_eq!(through_status["status"], json!({"replicas": 3}));
}

#[test]
fn a_status_adds_up() {
    let old = deployment();
    let mut obj = old.clone();
    obj["status"] = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": -1});
    let fields: Vec<String> =
        strategy("apps", "deployments").validate_status_update(&obj, &old).into_iter().map(|e| e.field).collect();
    assert_eq!(fields, ["status.availableReplicas", "status.readyReplicas"]);
}

#[test]
fn a_workload_keeps_its_selector() {
    let change = |o: &mut Value| {
        o["spec"]["selector"]["matchLabels"]["x"] = json!("y");
        o["spec"]["template"]["metadata"]["labels"]["x"] = json!("y");
    };
    assert_eq!(refused("apps", "deployments", &deployment(), change), ["spec.selector"]);
    let spec = json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}});
    for resource in ["replicasets", "daemonsets"] {
        assert_eq!(refused("apps", resource, &stored("apps", resource, spec.clone()), change), ["spec.selector"]);
    }
    assert_eq!(refused("apps", "statefulsets", &stored("apps", "statefulsets", spec), change), ["spec"]);
}

#[test]
fn a_pod_changes_its_images_and_little_else() {
    let old = pod();
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["containers"][0]["image"] = json!("i:2")), Vec::<String>::new());
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["activeDeadlineSeconds"] = json!(5)), Vec::<String>::new());
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["nodeName"] = json!("n")), ["spec"]);
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["containers"][0]["command"] = json!(["x"])), ["spec"]);
    let more = json!([{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}]);
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["tolerations"] = more.clone()), Vec::<String>::new());
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["tolerations"] = json!([])), ["spec.tolerations"]);
    let two = json!([{"name": "c", "image": "i:1"}, {"name": "d", "image": "i:1"}]);
    assert_eq!(refused("", "pods", &old, |o| o["spec"]["containers"] = two.clone()), ["spec.containers"]);
}

#[test]
fn a_pod_is_given_time_only_where_it_runs() {
    let strategy = strategy("", "pods");
    let mut pod = pod();
    assert_eq!(strategy.graceful_deletion(&pod, None), Some(0));
    pod["spec"]["nodeName"] = json!("n");
    assert_eq!(strategy.graceful_deletion(&pod, None), Some(30));
    assert_eq!(strategy.graceful_deletion(&pod, Some(5)), Some(5));
    pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(strategy.graceful_deletion(&pod, Some(5)), Some(0));
    assert_eq!(apiserver_registry::strategy("", "configmaps").graceful_deletion(&json!({}), Some(5)), None);
}

#[test]
fn a_service_keeps_what_was_allocated() {
    let old = service();
    let mut obj = old.clone();
    for field in ["clusterIP", "clusterIPs"] {
        obj["spec"].as_object_mut().expect("a spec").remove(field);
    }
    obj["spec"]["ports"][0].as_object_mut().expect("a port").remove("nodePort");
    strategy("", "services").prepare_for_update(&mut obj, &old);
    assert_eq!(obj, old);
    let other = |o: &mut Value| {
        o["spec"]["clusterIP"] = json!("10.0.0.2");
        o["spec"]["clusterIPs"] = json!(["10.0.0.2"]);
    };
    assert_eq!(refused("", "services", &old, other), ["spec.clusterIPs[0]"]);
}

#[test]
fn a_service_that_changes_its_type_drops_what_only_the_old_one_had() {
    let old = service();
    let mut obj = old.clone();
    obj["spec"]["type"] = json!("ClusterIP");
    strategy("", "services").prepare_for_update(&mut obj, &old);
    assert_eq!(obj["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(obj["spec"].get("externalTrafficPolicy"), None);
    let external = |o: &mut Value| {
        o["spec"]["type"] = json!("ExternalName");
        o["spec"]["externalName"] = json!("a.example.com");
    };
    assert_eq!(refused("", "services", &old, external), Vec::<String>::new());
}

#[test]
fn immutable_data_stays() {
    let old = stored("", "configmaps", json!({"immutable": true, "data": {"a": "b"}}));
    assert_eq!(refused("", "configmaps", &old, |o| o["data"]["a"] = json!("c")), ["data"]);
    assert_eq!(refused("", "configmaps", &old, |o| o["immutable"] = json!(false)), ["immutable"]);
    let secret = stored("", "secrets", json!({"data": {"a": "Yg=="}}));
    assert_eq!(refused("", "secrets", &secret, |o| o["type"] = json!("kubernetes.io/x")), ["type"]);
    let binding = stored(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}}),
    );
    let other = |o: &mut Value| o["roleRef"]["name"] = json!("s");
    assert_eq!(refused("rbac.authorization.k8s.io", "rolebindings", &binding, other), ["roleRef"]);
}

#[test]
fn a_namespace_ends_its_finalizers_through_their_own_door() {
    let mut old = json!({"metadata": {"name": "n"}});
    strategy("", "namespaces").prepare_for_create(&mut old);
    let mut obj = old.clone();
    obj["spec"]["finalizers"] = json!([]);
    let mut through_update = obj.clone();
    strategy("", "namespaces").prepare_for_update(&mut through_update, &old);
    assert_eq!(through_update["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(subresources::validate_finalize(&obj, &old), vec![]);
    obj["spec"]["finalizers"] = json!(["nobody's"]);
    assert!(!subresources::validate_finalize(&obj, &old).is_empty());
}

#[test]
fn a_bound_pod_names_its_node_and_says_when() {
    let now = apimachinery::time::Moment::parse("2026-01-01T00:00:00Z").expect("a time");
    let mut pod = pod();
    let binding = json!({"target": {"kind": "Node", "name": "n"}, "metadata": {"annotations": {"a": "b"}}});
    assert_eq!(subresources::validate_binding(&binding), vec![]);
    assert_eq!(subresources::validate_binding(&json!({"target": {"kind": "Pod"}})).len(), 2);
    subresources::bind(&mut pod, &binding, now);
    assert_eq!(pod["spec"]["nodeName"], "n");
    assert_eq!(pod["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(pod["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
}

#[test]
fn ephemeral_containers_are_only_added() {
    let mut old = pod();
    let debug = json!({"name": "d", "image": "i:1"});
    let mut obj = old.clone();
    obj["spec"]["ephemeralContainers"] = json!([debug]);
    obj["spec"]["nodeName"] = json!("elsewhere");
    subresources::prepare_for_ephemeral_containers(&mut obj, &old);
    assert_eq!(obj["spec"].get("nodeName"), None);
    assert_eq!(subresources::validate_ephemeral_containers(&obj, &old), vec![]);
    old = obj.clone();
    obj["spec"]["ephemeralContainers"] = json!([]);
    assert_eq!(subresources::validate_ephemeral_containers(&obj, &old).len(), 1);
}

#[test]
fn a_resize_keeps_the_class_of_the_pod() {
    let mut old = pod();
    old["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1", "memory": "1Gi"}});
    let mut obj = old.clone();
    obj["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
    obj["spec"]["containers"][0]["image"] = json!("other");
    subresources::prepare_for_resize(&mut obj, &old);
    assert_eq!(obj["spec"]["containers"][0]["image"], "i:1");
    assert_eq!(obj["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    assert_eq!(subresources::validate_resize(&obj, &old), vec![]);
    let all = json!({"cpu": "2", "memory": "1Gi"});
    obj["spec"]["containers"][0]["resources"] = json!({"requests": all, "limits": all});
    assert_eq!(subresources::validate_resize(&obj, &old)[0].field, "spec");
}

#[test]
fn a_kind_that_is_not_known_has_its_metadata_checked() {
    let bad = json!({"metadata": {"name": "Bad!", "namespace": "n", "labels": {"a b": "c"}}});
    let fields: Vec<String> = strategy("example.com", "things").validate(&bad).into_iter().map(|e| e.field).collect();
    assert_eq!(fields, ["metadata.name", "metadata.labels"]);
    let definition =
        json!({"spec": {"scope": "Namespaced", "versions": [{"name": "v1", "subresources": {"status": {}}}]}});
    let definition = apiserver_registry::custom::Definition::of(&definition);
    let custom = &definition.versions[0].strategy;
    let mut thing = json!({"metadata": {"name": "a"}, "spec": {"a": 1}, "status": {"b": 1}});
    custom.prepare_for_create(&mut thing);
    assert_eq!(thing, json!({"metadata": {"name": "a", "generation": 1}, "spec": {"a": 1}}));
    assert_eq!(custom.validate(&thing)[0].field, "metadata.namespace");
}
