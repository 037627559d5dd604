use serde_json::json;

use super::*;
use crate::testing::{State, attributes};

fn hardened() -> Value {
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": "i", "securityContext": context}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    })
}

/// The hardened pod with one field set.
fn with(pointer: &str, value: Value) -> Value {
    let mut pod = hardened();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    pod.pointer_mut(parent).expect("the parent")[field] = value;
    pod
}

#[test]
fn each_rule_belongs_to_its_level() {
    let cases = [
        (hardened(), true, true),
        (with("/spec/hostNetwork", json!(true)), false, false),
        (with("/spec/hostPID", json!(true)), false, false),
        (with("/spec/containers/0/securityContext/privileged", json!(true)), false, false),
        (with("/spec/containers/0/ports", json!([{"hostPort": 80}])), false, false),
        (with("/spec/containers/0/livenessProbe", json!({"httpGet": {"host": "h"}})), false, false),
        (with("/spec/containers/0/securityContext/procMount", json!("Unmasked")), false, false),
        (with("/spec/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"])), false, false),
        (with("/spec/containers/0/securityContext/capabilities/add", json!(["CHOWN"])), true, false),
        (with("/spec/containers/0/securityContext/capabilities/add", json!(["NET_BIND_SERVICE"])), true, true),
        (with("/spec/volumes", json!([{"name": "v", "hostPath": {"path": "/"}}])), false, false),
        (with("/spec/volumes", json!([{"name": "v", "nfs": {}}])), true, false),
        (with("/spec/securityContext/sysctls", json!([{"name": "kernel.msgmax"}])), false, false),
        (with("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}])), true, true),
        (with("/spec/securityContext/seLinuxOptions", json!({"type": "spc_t"})), false, false),
        (with("/spec/securityContext/seLinuxOptions", json!({"type": "container_t"})), true, true),
        (with("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"})), false, false),
        (with("/spec/securityContext/seccompProfile", Value::Null), true, false),
        (with("/spec/securityContext/runAsNonRoot", Value::Null), true, false),
        (with("/spec/securityContext/runAsUser", json!(0)), true, false),
        (with("/spec/securityContext/windowsOptions", json!({"hostProcess": true})), false, false),
        (with("/spec/securityContext/appArmorProfile", json!({"type": "Unconfined"})), false, false),
        (with("/spec/containers/0/securityContext", json!({})), true, false),
        (with("/spec/ephemeralContainers", json!([{"name": "debug"}])), true, false),
    ];
    for (pod, baseline, restricted) in cases {
        let found = violations(Level::Baseline, &pod);
        assert_eq!(found.is_none(), baseline, "baseline {pod} {found:?}");
        let found = violations(Level::Restricted, &pod);
        assert_eq!(found.is_none(), restricted, "restricted {pod} {found:?}");
        assert_eq!(violations(Level::Privileged, &pod), None);
    }
}

#[test]
fn a_plain_pod_is_told_all_that_it_lacks() {
    let plain = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    assert_eq!(
        violations(Level::Restricted, &plain).expect("violations"),
        "runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[tokio::test]
async fn namespaces_say_what_is_enforced_and_what_is_warned_of() {
    let state = State::default();
    let labels = json!({level::label("enforce"): "baseline", level::label("warn"): "restricted"});
    state.put("namespaces", json!({"metadata": {"name": "dev", "labels": labels}}));
    let plugin = PodSecurity::new(Arc::new(state));
    let create = attributes(Operation::Create, "", "pods");
    let plain = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}});
    let strong = with("/spec/hostNetwork", json!(true));
    assert!(plugin.validate(&create, Some(&plain), None).await.is_ok());
    let warnings = plugin.warnings(&create, Some(&plain), None);
    assert!(warnings[0].starts_with("would violate PodSecurity \"restricted:latest\": "), "{warnings:?}");
    let error = plugin.validate(&create, Some(&strong), None).await.expect_err("refused");
    assert_eq!(
        error.0.message,
        "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let update = attributes(Operation::Update, "", "pods");
    assert!(plugin.validate(&update, Some(&strong), Some(&strong)).await.is_ok(), "what was let in stays");
    let deployments = attributes(Operation::Create, "apps", "deployments");
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": strong}});
    assert!(plugin.validate(&deployments, Some(&deployment), None).await.is_ok());
    assert_eq!(plugin.warnings(&deployments, Some(&deployment), None).len(), 1);
}

#[tokio::test]
async fn a_namespaces_levels_can_be_read() {
    let plugin = PodSecurity::new(Arc::new(State::default()));
    let a = attributes(Operation::Create, "", "namespaces");
    let namespace = |key: &str, value: &str| json!({"metadata": {"name": "n", "labels": {key: value}}});
    for (key, value, wanted) in [
        ("enforce", "baseline", true),
        ("enforce", "strict", false),
        ("warn-version", "v1.30", true),
        ("warn-version", "latest", true),
        ("audit-version", "1.30", false),
    ] {
        let object = namespace(&level::label(key), value);
        assert_eq!(
            plugin.validate(&a, Some(&object), None).await.map_err(|e| e.code()),
            if wanted { Ok(()) } else { Err(422) }
        );
        let update = attributes(Operation::Update, "", "namespaces");
        assert!(plugin.validate(&update, Some(&object), Some(&object)).await.is_ok(), "what was there may stay");
    }
}
