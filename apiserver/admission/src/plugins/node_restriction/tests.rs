use apiserver_auth::UserInfo;
use apiserver_auth::authorization::node::references::MIRROR;
use apiserver_auth::authorization::union::AlwaysDeny;
use serde_json::json;

use super::*;
use crate::testing::{State, attributes};

fn plugin() -> NodeRestriction {
    let state = State::default();
    state.put("nodes", json!({"metadata": {"name": "n1", "uid": "u1"}}));
    let audience = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}]);
    let pod = |name: &str, node: &str| {
        let metadata = json!({"namespace": "dev", "name": name, "uid": "u"});
        json!({"metadata": metadata, "spec": {"nodeName": node, "volumes": audience}})
    };
    state.put("pods", pod("here", "n1"));
    state.put("pods", pod("there", "n2"));
    NodeRestriction::new(Arc::new(state), Arc::new(AlwaysDeny))
}

fn kubelet() -> UserInfo {
    UserInfo { name: "system:node:n1".into(), groups: vec!["system:nodes".into()], ..UserInfo::default() }
}

/// The code of the answer to the kubelet of n1, and its message.
async fn ask(
    operation: Operation,
    (group, resource, subresource): (&str, &str, &'static str),
    name: &str,
    object: Option<Value>,
    old: Option<Value>,
) -> Result<(), (u16, String)> {
    let user = kubelet();
    let a = Attributes { user: &user, subresource, name, ..attributes(operation, group, resource) };
    let plugin = plugin();
    assert!(plugin.handles(&a));
    plugin.validate(&a, object.as_ref(), old.as_ref()).await.map_err(|e| (e.code(), e.0.message.clone()))
}

fn node(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

#[tokio::test]
async fn others_are_not_restricted() {
    assert!(!plugin().handles(&attributes(Operation::Create, "", "nodes")));
}

#[tokio::test]
async fn a_kubelet_registers_its_own_node_with_labels_that_are_its_to_set() {
    let cases = [
        (node("n1", json!({"kubernetes.io/os": "linux", "own": "x", "example.com/a": "b"})), true),
        (node("n1", json!({"node.kubernetes.io/anything": "x", "sub.kubelet.kubernetes.io/y": "z"})), true),
        (node("n1", json!({"node-role.kubernetes.io/control-plane": ""})), false),
        (node("n1", json!({"node-restriction.kubernetes.io/zone": "a"})), false),
        (node("n1", json!({"foo.k8s.io/a": "a"})), false),
        (node("n2", json!({})), false),
    ];
    for (object, wanted) in cases {
        let got = ask(Operation::Create, ("", "nodes", ""), "", Some(object.clone()), None).await;
        assert_eq!(got.is_ok(), wanted, "{object} {got:?}");
    }
}

#[tokio::test]
async fn a_kubelet_does_not_free_its_node_from_what_administrators_set() {
    let old = json!({
        "metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/zone": "a", "own": "x"}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
    });
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).expect("a field") = value;
        new
    };
    let mut owned = old.clone();
    owned["metadata"]["ownerReferences"] = json!([{"name": "x"}]);
    let mut sourced = old.clone();
    sourced["spec"]["configSource"] = json!({"configMap": {"name": "c"}});
    let cases = [
        (change("/metadata/labels/own", json!("y")), true),
        (change("/metadata/labels", json!({"own": "x"})), false),
        (change("/metadata/labels/node-restriction.kubernetes.io~1zone", json!("b")), false),
        (change("/spec/taints", json!([])), false),
        (owned, false),
        (sourced.clone(), false),
    ];
    assert!(ask(Operation::Update, ("", "nodes", ""), "n1", Some(old.clone()), Some(sourced)).await.is_ok());
    for (new, wanted) in cases {
        let got = ask(Operation::Update, ("", "nodes", ""), "n1", Some(new.clone()), Some(old.clone())).await;
        assert_eq!(got.is_ok(), wanted, "{new} {got:?}");
    }
    assert!(ask(Operation::Update, ("", "nodes", "status"), "n2", Some(old.clone()), Some(old)).await.is_err());
}

fn mirror() -> Value {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true});
    json!({
        "metadata": {"name": "static-n1", "annotations": {MIRROR: "hash"}, "ownerReferences": [owner]},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
    })
}

#[tokio::test]
async fn a_kubelet_creates_mirror_pods_only() {
    let with = |pointer: &str, value: Value| {
        let mut pod = mirror();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        pod.pointer_mut(parent).expect("the parent")[field] = value;
        pod
    };
    let owner = |field: &str, value: Value| {
        let mut pod = mirror();
        pod["metadata"]["ownerReferences"][0][field] = value;
        pod
    };
    let cases = [
        (mirror(), true),
        (with("/metadata/annotations", json!({})), false),
        (with("/spec/nodeName", json!("n2")), false),
        (with("/metadata/ownerReferences", json!([])), false),
        (owner("name", json!("n2")), false),
        (owner("uid", json!("other")), false),
        (owner("controller", json!(false)), false),
        (owner("blockOwnerDeletion", json!(true)), false),
        (with("/spec/serviceAccountName", json!("default")), false),
        (with("/spec/imagePullSecrets", json!([{"name": "s"}])), false),
        (with("/spec/volumes", json!([{"name": "v", "configMap": {"name": "c"}}])), false),
        (with("/spec/volumes", json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])), false),
        (with("/spec/resourceClaims", json!([{"name": "r"}])), false),
        (
            with(
                "/spec/volumes",
                json!([{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"name": "b"}}]}}]),
            ),
            false,
        ),
    ];
    for (pod, wanted) in cases {
        let got = ask(Operation::Create, ("", "pods", ""), "", Some(pod.clone()), None).await;
        assert_eq!(got.is_ok(), wanted, "{pod} {got:?}");
    }
}

#[tokio::test]
async fn a_kubelet_ends_and_reports_its_own_pods() {
    for (name, wanted) in [("here", Ok(())), ("there", Err(403)), ("absent", Err(404))] {
        let deleted = ask(Operation::Delete, ("", "pods", ""), name, None, None).await;
        assert_eq!(deleted.map_err(|e| e.0), wanted, "{name}");
        let evicted = ask(Operation::Create, ("", "pods", "eviction"), name, Some(json!({})), None).await;
        assert_eq!(evicted.map_err(|e| e.0), wanted, "{name}");
    }
    let pod = |node: &str, label: &str| json!({"metadata": {"labels": {"a": label}}, "spec": {"nodeName": node}});
    for (new, old, wanted) in [
        (pod("n1", "x"), pod("n1", "x"), true),
        (pod("n1", "y"), pod("n1", "x"), false),
        (pod("n2", "x"), pod("n2", "x"), false),
    ] {
        let got = ask(Operation::Update, ("", "pods", "status"), "p", Some(new), Some(old)).await;
        assert_eq!(got.is_ok(), wanted, "{got:?}");
    }
    assert!(ask(Operation::Update, ("", "pods", ""), "here", Some(pod("n1", "x")), None).await.is_err());
    assert!(ask(Operation::Create, ("", "pods", "binding"), "here", Some(json!({})), None).await.is_err());
}

#[tokio::test]
async fn a_kubelet_gets_tokens_of_its_pods_only() {
    let request = |name: &str, uid: &str, audiences: Value| {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid});
        json!({"spec": {"boundObjectRef": bound, "audiences": audiences}})
    };
    let cases = [
        (request("here", "u", json!([])), true),
        (request("here", "u", json!(["vault"])), true),
        (request("here", "u", json!(["other"])), false),
        (request("here", "", json!([])), false),
        (request("here", "another", json!([])), false),
        (request("there", "u", json!([])), false),
        (request("absent", "u", json!([])), false),
        (json!({"spec": {}}), false),
    ];
    for (object, wanted) in cases {
        let got = ask(Operation::Create, ("", "serviceaccounts", "token"), "bot", Some(object.clone()), None).await;
        assert_eq!(got.is_ok(), wanted, "{object} {got:?}");
    }
}

#[tokio::test]
async fn leases_csi_nodes_and_slices_are_the_nodes_own() {
    let named = |name: &str| Some(json!({"metadata": {"name": name}}));
    let user = kubelet();
    let lease = |namespace, name| Attributes {
        user: &user,
        namespace,
        name,
        ..attributes(Operation::Update, "coordination.k8s.io", "leases")
    };
    for (namespace, name, wanted) in
        [("kube-node-lease", "n1", true), ("kube-node-lease", "n2", false), ("dev", "n1", false)]
    {
        let object = named(name);
        let got = plugin().validate(&lease(namespace, name), object.as_ref(), None).await;
        assert_eq!(got.is_ok(), wanted, "{namespace}/{name}");
    }
    let csi = ("storage.k8s.io", "csinodes", "");
    assert!(ask(Operation::Create, csi, "", named("n1"), None).await.is_ok());
    assert!(ask(Operation::Create, csi, "", named("n2"), None).await.is_err());
    let slice = |node: &str| Some(json!({"spec": {"nodeName": node}}));
    let slices = ("resource.k8s.io", "resourceslices", "");
    assert!(ask(Operation::Create, slices, "", slice("n1"), None).await.is_ok());
    assert!(ask(Operation::Create, slices, "", slice("n2"), None).await.is_err());
}

#[tokio::test]
async fn a_claims_status_changes_in_what_resizing_needs() {
    let old = json!({"metadata": {"name": "c"}, "status": {"phase": "Bound"}});
    let mut resized = old.clone();
    resized["status"]["capacity"] = json!({"storage": "2Gi"});
    let mut other = old.clone();
    other["status"]["phase"] = "Lost".into();
    let claims = ("", "persistentvolumeclaims", "status");
    assert!(ask(Operation::Update, claims, "c", Some(resized), Some(old.clone())).await.is_ok());
    assert!(ask(Operation::Update, claims, "c", Some(other), Some(old)).await.is_err());
}
