use serde_json::{Value, json};

use super::*;
use crate::user::NODES;

fn change(node: &Node, group: &'static str, resource: &'static str, old: Option<&Value>, new: Option<&Value>) {
    let object = old.or(new).expect("one of them");
    node.observe(&Change {
        resource: GroupResource::new(group, resource),
        namespace: crate::object::namespace(object),
        name: crate::object::name(object),
        old: old.cloned().map(Arc::new),
        new: new.cloned().map(Arc::new),
    });
}

fn kubelet(name: &str) -> UserInfo {
    UserInfo { name: format!("system:node:{name}"), groups: vec![NODES.into()], ..UserInfo::default() }
}

fn ask<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (group, resource) = resource.rsplit_once(':').unwrap_or(("", resource));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        verb,
        is_resource_request: true,
        group,
        resource,
        subresource,
        namespace,
        name,
        ..Attributes::default()
    }
}

fn pod(node: &str) -> Value {
    json!({
        "metadata": {"namespace": "dev", "name": "web"},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "bot",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "settings"}}]}],
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "scratch", "ephemeral": {}},
                {"name": "all", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
            ],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
        },
    })
}

fn volume() -> Value {
    json!({
        "metadata": {"name": "pv1"},
        "spec": {"claimRef": {"namespace": "dev", "name": "data"}, "csi": {"nodeStageSecretRef": {"namespace": "vault", "name": "stage"}}},
    })
}

#[test]
fn a_node_reaches_what_its_pods_need_and_no_other_does() {
    let node = Node::new(Vec::new());
    change(&node, "", "pods", None, Some(&pod("n1")));
    change(&node, "", "persistentvolumes", None, Some(&volume()));
    let attachment = json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}});
    change(&node, STORAGE, "volumeattachments", None, Some(&attachment));
    let reads = [
        ask("get", "pods", "dev", "web"),
        ask("get", "secrets", "dev", "pull"),
        ask("watch", "secrets", "dev", "key"),
        ask("list", "secrets", "dev", "projected"),
        ask("get", "configmaps", "dev", "settings"),
        ask("get", "persistentvolumeclaims", "dev", "data"),
        ask("get", "persistentvolumeclaims", "dev", "web-scratch"),
        ask("get", "persistentvolumes", "", "pv1"),
        ask("get", "secrets", "vault", "stage"),
        ask("create", "serviceaccounts/token", "dev", "bot"),
        ask("get", "resource.k8s.io:resourceclaims", "dev", "gpu"),
        ask("get", "storage.k8s.io:volumeattachments", "", "va"),
    ];
    for attributes in &reads {
        assert!(node.authorize(&kubelet("n1"), attributes).allowed(), "{attributes:?}");
        assert!(!node.authorize(&kubelet("n2"), attributes).allowed(), "{attributes:?}");
    }
    for attributes in [
        ask("get", "secrets", "dev", "other"),
        ask("get", "secrets", "prod", "pull"),
        ask("list", "secrets", "dev", ""),
        ask("update", "secrets", "dev", "pull"),
        ask("list", "persistentvolumes", "", "pv1"),
    ] {
        assert!(!node.authorize(&kubelet("n1"), &attributes).allowed(), "{attributes:?}");
    }
    // The pod moves in time: what it needs goes with it, and nothing is left behind.
    change(&node, "", "pods", Some(&pod("n1")), Some(&pod("n2")));
    assert!(!node.authorize(&kubelet("n1"), &reads[1]).allowed());
    assert!(node.authorize(&kubelet("n2"), &reads[1]).allowed());
    assert!(node.authorize(&kubelet("n2"), &reads[8]).allowed());
    change(&node, "", "pods", Some(&pod("n2")), None);
    change(&node, "", "persistentvolumes", Some(&volume()), None);
    change(&node, STORAGE, "volumeattachments", Some(&attachment), None);
    let empty = node.graph.read();
    assert!(!reads.iter().any(|a| empty.reaches("n2", Kind::Secret, a.namespace, a.name)));
    assert!(empty.is_empty());
}

#[test]
fn a_mirror_pod_gives_its_node_no_rights() {
    let node = Node::new(Vec::new());
    let mut mirror = pod("n1");
    mirror["metadata"]["annotations"] = json!({references::MIRROR: "hash"});
    change(&node, "", "pods", None, Some(&mirror));
    assert!(node.authorize(&kubelet("n1"), &ask("get", "pods", "dev", "web")).allowed());
    assert!(!node.authorize(&kubelet("n1"), &ask("get", "secrets", "dev", "pull")).allowed());
}

#[test]
fn a_node_changes_what_is_its_own() {
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["services"]});
    let node = Node::new(vec![Arc::new(Rule::from_value(&rule))]);
    let with = |mut a: Attributes<'static>, selector| {
        a.field_selector = selector;
        a
    };
    let cases = [
        (ask("get", "services", "dev", "a"), true),
        (ask("delete", "services", "dev", "a"), false),
        (ask("create", "nodes", "", ""), true),
        (ask("get", "nodes", "", "n1"), true),
        (ask("get", "nodes", "", "n2"), false),
        (ask("list", "nodes", "", ""), false),
        (ask("delete", "nodes", "", "n1"), false),
        (ask("patch", "nodes/status", "", "n1"), true),
        (ask("create", "coordination.k8s.io:leases", "kube-node-lease", ""), true),
        (ask("update", "coordination.k8s.io:leases", "kube-node-lease", "n1"), true),
        (ask("update", "coordination.k8s.io:leases", "kube-node-lease", "n2"), false),
        (ask("update", "coordination.k8s.io:leases", "kube-system", "n1"), false),
        (ask("update", "storage.k8s.io:csinodes", "", "n1"), true),
        (ask("update", "storage.k8s.io:csinodes", "", "n2"), false),
        (ask("create", "pods", "dev", ""), true),
        (ask("create", "pods/eviction", "dev", "web"), true),
        (ask("list", "pods", "", ""), false),
        (with(ask("list", "pods", "", ""), "spec.nodeName=n1"), true),
        (with(ask("watch", "pods", "", ""), "spec.nodeName==n1,status.phase!=Failed"), true),
        (with(ask("list", "pods", "", ""), "spec.nodeName=n2"), false),
        (with(ask("list", "pods", "", ""), "spec.nodeName!=n1"), false),
        (with(ask("list", "resource.k8s.io:resourceslices", "", ""), "spec.nodeName=n1"), true),
        (ask("list", "resource.k8s.io:resourceslices", "", ""), false),
    ];
    for (attributes, wanted) in &cases {
        assert_eq!(node.authorize(&kubelet("n1"), attributes).allowed(), *wanted, "{attributes:?}");
    }
    let stranger = UserInfo { name: "system:node:n1".into(), ..UserInfo::default() };
    assert!(!node.authorize(&stranger, &cases[0].0).allowed(), "not in the group of nodes");
}
