use serde_json::json;

use super::level::Version;
use super::*;
use crate::testing::{State, attributes, observe};

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

fn policy(level: Level, version: Version) -> Policy {
    Policy { level, version }
}

fn says(level: Level, version: Version, pod: &Value) -> String {
    described(&violations(policy(level, version), pod)).unwrap_or_default()
}

#[test]
fn each_rule_belongs_to_its_level_and_says_what_it_misses() {
    let context = "/spec/containers/0/securityContext";
    let field = |name: &str| format!("{context}/{name}");
    let cases = [
        (hardened(), "", ""),
        (with("/spec/hostNetwork", json!(true)), "host namespaces (hostNetwork=true)", ""),
        (
            with(&field("privileged"), json!(true)),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
            "",
        ),
        (
            with("/spec/containers/0/ports", json!([{"hostPort": 80}, {"hostPort": 8080}])),
            "hostPort (container \"c\" uses hostPorts 80, 8080)",
            "",
        ),
        (
            with("/spec/containers/0/livenessProbe", json!({"httpGet": {"host": "h"}})),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
            "",
        ),
        (
            with(&field("procMount"), json!("Unmasked")),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
            "",
        ),
        (
            with(&field("capabilities/add"), json!(["SYS_ADMIN"])),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            "unrestricted capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            with(&field("capabilities/add"), json!(["CHOWN"])),
            "",
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (with(&field("capabilities/add"), json!(["NET_BIND_SERVICE"])), "", ""),
        (
            with("/spec/volumes", json!([{"name": "v", "hostPath": {"path": "/"}}])),
            "hostPath volumes (volume \"v\")",
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        ),
        (
            with("/spec/volumes", json!([{"name": "v", "nfs": {}}, {"name": "w", "nfs": {}}])),
            "",
            "restricted volume types (volumes \"v\", \"w\" use restricted volume type \"nfs\")",
        ),
        (
            with("/spec/securityContext/sysctls", json!([{"name": "kernel.msgmax"}])),
            "forbidden sysctls (kernel.msgmax)",
            "",
        ),
        (
            with("/spec/securityContext/seLinuxOptions", json!({"type": "spc_t", "user": "u"})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
            "",
        ),
        (
            with("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            with("/spec/securityContext/seccompProfile", Value::Null),
            "",
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
        (
            with(&field("runAsNonRoot"), json!(false)),
            "",
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (with("/spec/securityContext/runAsUser", json!(0)), "", "runAsUser=0 (pod must not set runAsUser=0)"),
        (
            with("/spec/securityContext/windowsOptions", json!({"hostProcess": true})),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            "",
        ),
        (
            with("/spec/securityContext/appArmorProfile", json!({"type": "Unconfined"})),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
            "",
        ),
    ];
    for (pod, baseline, restricted) in cases {
        assert_eq!(says(Level::Baseline, Version::Latest, &pod), baseline, "{pod}");
        let restricted = if restricted.is_empty() { baseline } else { restricted };
        assert_eq!(says(Level::Restricted, Version::Latest, &pod), restricted, "{pod}");
        assert_eq!(says(Level::Privileged, Version::Latest, &pod), "");
    }
}

#[test]
fn a_plain_pod_is_told_all_that_it_lacks() {
    let plain = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "hostPID": true}});
    assert_eq!(
        says(Level::Restricted, Version::Latest, &plain),
        "host namespaces (hostPID=true), \
         allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[test]
fn older_versions_are_as_they_were() {
    let mut windows = with("/spec/containers/0/securityContext", json!({}));
    windows["spec"]["os"]["name"] = "windows".into();
    let sysctl = with("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}]));
    let probe = with("/spec/containers/0/livenessProbe", json!({"tcpSocket": {"host": "h"}}));
    let chown = with("/spec/containers/0/securityContext/capabilities/add", json!(["CHOWN"]));
    let mut noted = with("/spec/securityContext/seccompProfile", json!({"type": "Unconfined"}));
    noted["metadata"]["annotations"] = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
    let mut root = with("/spec/securityContext/runAsUser", json!(0));
    root["spec"]["hostUsers"] = json!(false);
    for (pod, level, since, allowed_since) in [
        (&windows, Level::Restricted, 25, true),
        (&sysctl, Level::Baseline, 32, true),
        (&probe, Level::Baseline, 34, false),
        (&chown, Level::Restricted, 22, false),
        (&root, Level::Restricted, 35, true),
    ] {
        for (minor, is_since) in [(since - 1, false), (since, true)] {
            let found = says(level, Version::Minor(minor), pod);
            assert_eq!(found.is_empty(), is_since == allowed_since, "v1.{minor} {found}");
        }
    }
    let note = "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")";
    assert_eq!(says(Level::Restricted, Version::Minor(18), &noted), note);
    let field = "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")";
    assert_eq!(says(Level::Baseline, Version::Minor(19), &noted), field);
}

fn plugin(labels: Value, configuration: Value) -> (Arc<State>, PodSecurity) {
    let state = Arc::new(State::default());
    let configuration = serde_json::from_value(configuration).expect("a configuration");
    let plugin = PodSecurity::new(state.clone(), configuration);
    observe(&plugin, NAMESPACES, &json!({"metadata": {"name": "dev", "labels": labels}}));
    (state, plugin)
}

#[tokio::test]
async fn namespaces_say_what_is_enforced_and_what_is_warned_of() {
    let labels = json!({level::label("enforce"): "baseline", level::label("warn"): "restricted", "pod-security.kubernetes.io/warn-version": "v1.30"});
    let (_, plugin) = plugin(labels, json!({}));
    let create = attributes(Operation::Create, "", "pods");
    let plain = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}});
    let strong = with("/spec/hostNetwork", json!(true));
    assert!(plugin.validate(&create, Some(&plain), None).await.is_ok());
    let warnings = plugin.warnings(&create, Some(&plain), None);
    assert!(warnings[0].starts_with("would violate PodSecurity \"restricted:v1.30\": "), "{warnings:?}");
    let error = plugin.validate(&create, Some(&strong), None).await.expect_err("refused");
    assert_eq!(
        error.0.message,
        "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let update = attributes(Operation::Update, "", "pods");
    assert!(plugin.validate(&update, Some(&strong), Some(&strong)).await.is_ok(), "what was let in stays");
    let mut debugged = strong.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "i"}]);
    assert!(plugin.validate(&update, Some(&debugged), Some(&strong)).await.is_err());
    let deployments = attributes(Operation::Create, "apps", "deployments");
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": strong}});
    assert!(plugin.validate(&deployments, Some(&deployment), None).await.is_ok());
    assert_eq!(plugin.warnings(&deployments, Some(&deployment), None).len(), 1);
}

#[tokio::test]
async fn a_namespace_that_nobody_has_told_of_is_looked_up() {
    let (state, plugin) = plugin(json!({}), json!({}));
    state.put("namespaces", json!({"metadata": {"name": "new", "labels": {level::label("enforce"): "restricted"}}}));
    let mut create = attributes(Operation::Create, "", "pods");
    create.namespace = "new";
    let plain = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}});
    assert_eq!(plugin.validate(&create, Some(&plain), None).await.map_err(|error| error.code()), Err(403));
}

#[tokio::test]
async fn a_configuration_gives_defaults_and_exemptions() {
    let exemptions = json!({"usernames": ["root"], "namespaces": ["system"], "runtimeClasses": ["vm"]});
    let defaults = json!({"enforce": "restricted", "enforce-version": "v1.35"});
    let (state, plugin) = plugin(json!({}), json!({"defaults": defaults, "exemptions": exemptions}));
    state.put("namespaces", json!({"metadata": {"name": "system"}}));
    let plain = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}]}});
    let mut virtual_machine = plain.clone();
    virtual_machine["spec"]["runtimeClassName"] = "vm".into();
    let create = attributes(Operation::Create, "", "pods");
    let error = plugin.validate(&create, Some(&plain), None).await.expect_err("refused");
    assert!(error.0.message.contains("violates PodSecurity \"restricted:v1.35\": "), "{error:?}");
    assert_eq!(plugin.validate(&create, Some(&virtual_machine), None).await, Ok(()));
    let root = apiserver_auth::UserInfo { name: "root".into(), ..Default::default() };
    let mut by_root = create;
    by_root.user = &root;
    assert_eq!(plugin.validate(&by_root, Some(&plain), None).await, Ok(()));
    let mut in_system = create;
    in_system.namespace = "system";
    assert_eq!(plugin.validate(&in_system, Some(&plain), None).await, Ok(()));
    let labels = json!({level::label("enforce"): "baseline", level::label("warn"): "restricted"});
    let system = json!({"metadata": {"name": "system", "labels": labels}});
    let a = attributes(Operation::Create, "", "namespaces");
    let told = "namespace \"system\" is exempt from Pod Security, and the policy \
                (enforce=baseline:v1.35, warn=restricted:latest) will be ignored";
    assert_eq!(plugin.warnings(&a, Some(&system), None), [told]);
    let bad = serde_json::from_value::<Configuration>(json!({"defaults": {"warn": "strict"}}));
    assert!(bad.expect_err("refused").to_string().contains("must be one of privileged, baseline, restricted"));
}

#[tokio::test]
async fn a_namespaces_levels_can_be_read() {
    let (_, plugin) = plugin(json!({}), json!({}));
    let a = attributes(Operation::Create, "", "namespaces");
    let namespace = |key: &str, value: &str| json!({"metadata": {"name": "n", "labels": {key: value}}});
    for (key, value, wanted) in [
        ("enforce", "baseline", true),
        ("enforce", "strict", false),
        ("warn-version", "v1.30", true),
        ("warn-version", "latest", true),
        ("audit-version", "1.30", false),
        ("audit-version", "v1.030", false),
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

#[test]
fn who_makes_a_namespace_stricter_is_told_which_pods_would_not_be_let_in() {
    let (state, plugin) = plugin(json!({}), json!({}));
    for (name, host) in [("b", true), ("a", true), ("c", false)] {
        let spec =
            json!({"hostNetwork": host, "containers": [{"name": "x", "securityContext": {"privileged": name == "b"}}]});
        state.put("pods", json!({"metadata": {"name": name, "namespace": "dev"}, "spec": spec}));
    }
    let a = attributes(Operation::Update, "", "namespaces");
    let namespace = |level: &str| json!({"metadata": {"name": "dev", "labels": {level::label("enforce"): level}}});
    let told = |new: &str, old: &str| plugin.warnings(&a, Some(&namespace(new)), Some(&namespace(old)));
    assert_eq!(
        told("baseline", "privileged"),
        [
            "existing pods in namespace \"dev\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a: host namespaces",
            "b: host namespaces, privileged",
        ]
    );
    assert_eq!(told("baseline", "restricted"), [""; 0]);
    assert_eq!(told("privileged", "restricted"), [""; 0]);
    let all = told("restricted", "baseline").join("\n");
    assert!(all.contains("c: allowPrivilegeEscalation != false, unrestricted capabilities, "), "{all}");
}
