use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::escalation::{check_binding, check_role, uncovered};
use super::*;

fn resource_of(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("ClusterRole") => "clusterroles",
        Some("Role") => "roles",
        Some("ClusterRoleBinding") => "clusterrolebindings",
        _ => "rolebindings",
    }
}

fn change(rbac: &Rbac, old: Option<&Value>, new: Option<&Value>) {
    let object = old.or(new).expect("one of them");
    rbac.observe(&Change {
        resource: GroupResource::new(GROUP, resource_of(object)),
        namespace: crate::object::namespace(object),
        name: crate::object::name(object),
        old: old.cloned().map(Arc::new),
        new: new.cloned().map(Arc::new),
    });
}

fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
    json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}, "rules": rules})
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subjects: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    json!({
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "roleRef": {"kind": role.0, "name": role.1},
        "subjects": subjects,
    })
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..UserInfo::default() }
}

fn ask<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes { verb, is_resource_request: true, resource, subresource, namespace, name, ..Attributes::default() }
}

#[test]
fn decisions_follow_rules_bindings_and_their_changes() {
    let rbac = Rbac::default();
    let reader = json!([
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]},
        {"verbs": ["update"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["own"]},
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/openid/*"]},
    ]);
    change(&rbac, None, Some(&role("ClusterRole", "", "reader", reader)));
    let local =
        binding("dev", "readers", ("ClusterRole", "reader"), json!([{"kind": "ServiceAccount", "name": "bot"}]));
    change(&rbac, None, Some(&local));
    let wide = binding("", "wide", ("ClusterRole", "reader"), json!([{"kind": "Group", "name": "ops"}]));
    change(&rbac, None, Some(&wide));
    let bot = user("system:serviceaccount:dev:bot", &[]);
    let ops = user("jane", &["ops"]);
    let cases = [
        (&bot, ask("get", "pods", "dev", "a"), true),
        (&bot, ask("get", "pods/log", "dev", "a"), true),
        (&bot, ask("get", "pods/exec", "dev", "a"), false),
        (&bot, ask("get", "deployments/scale", "dev", "a"), true),
        (&bot, ask("get", "pods", "prod", "a"), false),
        (&bot, ask("get", "pods", "", ""), false),
        (&bot, ask("list", "pods", "dev", ""), false),
        (&bot, ask("update", "configmaps", "dev", "own"), true),
        (&bot, ask("update", "configmaps", "dev", "other"), false),
        (&bot, ask("update", "configmaps", "dev", ""), false),
        (&ops, ask("get", "pods", "prod", "a"), true),
        (&ops, Attributes { verb: "get", path: "/openid/v1/jwks", ..Attributes::default() }, true),
        (&ops, Attributes { verb: "get", path: "/healthz/etcd", ..Attributes::default() }, false),
        (&bot, Attributes { verb: "get", path: "/healthz", ..Attributes::default() }, false),
    ];
    for (who, attributes, wanted) in &cases {
        assert_eq!(rbac.authorize(who, attributes).allowed(), *wanted, "{} {attributes:?}", who.name);
    }
    assert_eq!(
        rbac.authorize(&bot, &ask("get", "pods", "dev", "a")).reason(),
        r#"RBAC: allowed by RoleBinding "readers/dev" of ClusterRole "reader" to ServiceAccount "bot/dev""#
    );
    change(&rbac, Some(&local), None);
    assert!(!rbac.authorize(&bot, &ask("get", "pods", "dev", "a")).allowed());
    change(&rbac, Some(&role("ClusterRole", "", "reader", json!([]))), None);
    let decision = rbac.authorize(&ops, &ask("get", "pods", "prod", "a"));
    assert_eq!(decision.reason(), r#"RBAC: clusterrole.rbac.authorization.k8s.io "reader" not found"#);
}

#[test]
fn nobody_gives_what_they_do_not_have() {
    let rbac = Rbac::default();
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/status"]},
        {"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["free"]},
    ]);
    change(&rbac, None, Some(&role("ClusterRole", "", "some", rules)));
    for name in ["free", "strong"] {
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        change(&rbac, None, Some(&role("ClusterRole", "", name, all)));
    }
    change(&rbac, None, Some(&binding("dev", "b", ("ClusterRole", "some"), json!([{"kind": "User", "name": "jane"}]))));
    let jane = user("jane", &[]);
    let pods = |verbs: Value| json!([{"verbs": verbs, "apiGroups": [""], "resources": ["pods", "nodes/status"]}]);
    let check = |role: &Value, old| check_role(&rbac, &jane, role, old);
    assert_eq!(check(&role("Role", "dev", "r", pods(json!(["get"]))), None), Ok(()));
    let more = role("Role", "dev", "r", pods(json!(["get", "delete"])));
    let refused = check(&more, None).expect_err("more than jane has");
    assert_eq!(refused.code(), 403);
    assert!(refused.0.message.contains(r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#), "{refused}");
    assert_eq!(check(&more, Some(&more)), Ok(()), "what was there may stay");
    assert!(
        check(&role("ClusterRole", "", "r", pods(json!(["get"]))), None).is_err(),
        "jane has it in one namespace only"
    );
    assert_eq!(check_role(&rbac, &user("root", &["system:masters"]), &more, None), Ok(()));

    let bind = |namespace: &str, to: &str| binding(namespace, "new", ("ClusterRole", to), json!([]));
    assert_eq!(check_binding(&rbac, &rbac, &jane, &bind("dev", "some")), Ok(()), "jane has all of it");
    assert_eq!(check_binding(&rbac, &rbac, &jane, &bind("", "some")).map_err(|e| e.code()), Err(403));
    assert_eq!(check_binding(&rbac, &rbac, &jane, &bind("dev", "free")), Ok(()), "by the verb bind");
    assert_eq!(check_binding(&rbac, &rbac, &jane, &bind("dev", "strong")).map_err(|e| e.code()), Err(403));
    assert_eq!(check_binding(&rbac, &rbac, &jane, &bind("dev", "absent")).map_err(|e| e.code()), Err(404));
}

#[test]
fn covering_is_by_the_finest_parts() {
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let rule = Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            ..Rule::default()
        };
        Arc::new(rule)
    };
    let owner = [rule(&["get"], &[""], &["pods"], &[]), rule(&["list"], &[""], &["pods"], &["a"])];
    assert!(uncovered(&owner, &[rule(&["get", "list"], &[""], &["pods"], &["a"])]).is_empty());
    assert_eq!(uncovered(&owner, &[rule(&["get", "list"], &[""], &["pods"], &[])]).len(), 1);
    assert_eq!(uncovered(&owner, &[rule(&["*"], &[""], &["pods"], &["a"])]).len(), 1);
}

// The property: the compiled form decides as a walk over all bindings does.

const VERBS: [&str; 4] = ["get", "list", "update", "*"];
const RESOURCES: [&str; 6] = ["pods", "pods/log", "configmaps", "deployments/scale", "*/scale", "*"];
const NAMES: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 3] = ["", "n1", "n2"];
const SUBJECTS: [(&str, &str); 6] =
    [("User", "a"), ("User", "b"), ("Group", "a"), ("Group", "g"), ("ServiceAccount", "a"), ("Robot", "a")];

fn pick<T: Clone + std::fmt::Debug + 'static>(list: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(list)
}

fn some(list: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(pick(list), 0..3)
}

fn any_rule() -> impl Strategy<Value = Value> {
    (some(&VERBS), some(&["", "apps", "*"]), some(&RESOURCES), some(&NAMES), some(&["/x", "/x/*", "*"])).prop_map(
        |(verbs, groups, resources, names, urls)| {
            json!({
                "verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names, "nonResourceURLs": urls,
            })
        },
    )
}

fn any_role() -> impl Strategy<Value = Value> {
    (pick(&NAMESPACES), pick(&NAMES), prop::collection::vec(any_rule(), 0..3)).prop_map(|(namespace, name, rules)| {
        role(if namespace.is_empty() { "ClusterRole" } else { "Role" }, namespace, name, rules.into())
    })
}

fn any_binding() -> impl Strategy<Value = Value> {
    let subjects = prop::collection::vec((pick(&SUBJECTS), pick(&NAMESPACES)), 0..3);
    (pick(&NAMESPACES), pick(&NAMES), any::<bool>(), pick(&NAMES), subjects).prop_map(
        |(namespace, name, local, to, subjects)| {
            let subjects =
                subjects.into_iter().map(|((kind, name), ns)| json!({"kind": kind, "name": name, "namespace": ns}));
            let kind = if local && !namespace.is_empty() { "Role" } else { "ClusterRole" };
            binding(namespace, name, (kind, to), subjects.collect())
        },
    )
}

type State = HashMap<(&'static str, String, String), Value>;

fn naive(state: &State, who: &UserInfo, attributes: &Attributes<'_>) -> bool {
    let get = |resource, namespace: &str, name: &Value| {
        state.get(&(resource, namespace.to_owned(), name.as_str().expect("a name").to_owned()))
    };
    state.values().filter(|object| object.get("roleRef").is_some()).any(|object| {
        let home = object["metadata"]["namespace"].as_str().expect("a namespace");
        let in_scope = home.is_empty() || (attributes.is_resource_request && home == attributes.namespace);
        let subject = object["subjects"].as_array().expect("a list").iter().any(|subject| {
            let name = subject["name"].as_str().expect("a name");
            let own = subject["namespace"].as_str().expect("a namespace");
            let account_home = if own.is_empty() { home } else { own };
            match subject["kind"].as_str() {
                Some("User") => who.name == name,
                Some("Group") => who.groups.iter().any(|g| g == name),
                Some("ServiceAccount") => {
                    !account_home.is_empty() && who.name == format!("system:serviceaccount:{account_home}:{name}")
                }
                _ => false,
            }
        });
        let role = match object["roleRef"]["kind"].as_str() {
            Some("Role") => get("roles", home, &object["roleRef"]["name"]),
            _ => get("clusterroles", "", &object["roleRef"]["name"]),
        };
        let allows = |role: &Value| {
            role["rules"].as_array().expect("rules").iter().any(|rule| Rule::from_value(rule).allows(attributes))
        };
        in_scope && subject && role.is_some_and(allows)
    })
}

proptest! {
    #[test]
    fn the_compiled_form_decides_as_a_walk_over_all_bindings(
        objects in prop::collection::vec(prop_oneof![any_role(), any_binding()], 1..25),
        deletions in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let rbac = Rbac::default();
        let mut state = State::new();
        let key = |object: &Value| {
            let meta = |field: &str| object["metadata"][field].as_str().expect("a string").to_owned();
            (resource_of(object), meta("namespace"), meta("name"))
        };
        for object in &objects {
            let old = state.insert(key(object), object.clone());
            change(&rbac, old.as_ref(), Some(object));
        }
        for index in deletions {
            if let Some(old) = state.remove(&key(index.get(&objects))) {
                change(&rbac, Some(&old), None);
            }
        }
        let users = [user("a", &[]), user("b", &["g"]), user("c", &["a"]), user("system:serviceaccount:n1:a", &[])];
        for who in &users {
            for verb in ["get", "update"] {
                for namespace in NAMESPACES {
                    for resource in ["pods", "pods/log", "configmaps", "deployments/scale"] {
                        let attributes = ask(verb, resource, namespace, "a");
                        prop_assert_eq!(
                            rbac.authorize(who, &attributes).allowed(), naive(&state, who, &attributes), "{} {:?}", who.name, attributes
                        );
                    }
                }
                for path in ["/x", "/x/y", "/z"] {
                    let attributes = Attributes { verb, path, ..Attributes::default() };
                    prop_assert_eq!(rbac.authorize(who, &attributes).allowed(), naive(&state, who, &attributes));
                }
            }
        }
    }
}
