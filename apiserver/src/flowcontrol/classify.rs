//! Which requests a FlowSchema is for, compiled from its rules (API reference, "FlowSchema").

use apiserver_auth::UserInfo;
use apiserver_auth::user::SERVICE_ACCOUNT_PREFIX;
use serde_json::Value;

use crate::request::RequestInfo;

/// A request, as rules see it.
pub struct Subject<'a> {
    pub user: &'a UserInfo,
    pub info: &'a RequestInfo,
    pub path: &'a str,
}

/// What tells the flows of one FlowSchema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    User,
    Namespace,
}

impl Distinguisher {
    pub fn of(spec: &Value) -> Option<Self> {
        match spec["distinguisherMethod"]["type"].as_str()? {
            "ByUser" => Some(Distinguisher::User),
            "ByNamespace" => Some(Distinguisher::Namespace),
            _ => None,
        }
    }
}

/// The rules of a FlowSchema: one that matches is enough.
#[derive(Debug)]
pub struct Rules(Box<[Rule]>);

#[derive(Debug)]
struct Rule {
    subjects: Box<[Who]>,
    resources: Box<[ResourceRule]>,
    paths: Box<[PathRule]>,
}

#[derive(Debug)]
enum Who {
    Anyone,
    User(Box<str>),
    Group(Box<str>),
    /// All service accounts of a namespace, by the beginning of their user names.
    Namespace(Box<str>),
}

/// Words, or the `*` for all.
#[derive(Debug)]
enum Words {
    All,
    These(Box<[Box<str>]>),
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Words,
    groups: Words,
    resources: Words,
    namespaces: Words,
    cluster_scope: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Words,
    paths: Words,
}

fn list<T>(value: &Value, compile: impl Fn(&Value) -> T) -> Box<[T]> {
    value.as_array().into_iter().flatten().map(compile).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Rules {
    pub fn of(spec: &Value) -> Self {
        Rules(list(&spec["rules"], |rule| Rule {
            subjects: list(&rule["subjects"], Who::of),
            resources: list(&rule["resourceRules"], ResourceRule::of),
            paths: list(&rule["nonResourceRules"], |rule| PathRule {
                verbs: Words::of(&rule["verbs"]),
                paths: Words::of(&rule["nonResourceURLs"]),
            }),
        }))
    }

    /// Whether one of the rules is for this request.
    pub fn match_request(&self, request: &Subject<'_>) -> bool {
        self.0.iter().any(|rule| rule.matches(request))
    }
}

impl Rule {
    fn matches(&self, request: &Subject<'_>) -> bool {
        let what = || {
            if request.info.is_resource {
                self.resources.iter().any(|rule| rule.matches(request.info))
            } else {
                self.paths.iter().any(|rule| rule.matches(request.info.verb, request.path))
            }
        };
        self.subjects.iter().any(|who| who.is(request.user)) && what()
    }
}

impl Who {
    fn of(subject: &Value) -> Self {
        match text(&subject["kind"]) {
            "User" => match text(&subject["user"]["name"]) {
                "*" => Who::Anyone,
                name => Who::User(name.into()),
            },
            "Group" => match text(&subject["group"]["name"]) {
                "*" => Who::Anyone,
                name => Who::Group(name.into()),
            },
            _ => {
                let account = &subject["serviceAccount"];
                let namespace = format!("{SERVICE_ACCOUNT_PREFIX}{}:", text(&account["namespace"]));
                match text(&account["name"]) {
                    "*" => Who::Namespace(namespace.into()),
                    name => Who::User((namespace + name).into()),
                }
            }
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Who::Anyone => true,
            Who::User(name) => user.name == **name,
            Who::Group(name) => user.in_group(name),
            Who::Namespace(prefix) => user.name.strip_prefix(&**prefix).is_some_and(|name| !name.is_empty()),
        }
    }
}

impl Words {
    fn of(words: &Value) -> Self {
        let words = list(words, |word| Box::<str>::from(text(word)));
        if words.iter().any(|word| **word == *"*") { Words::All } else { Words::These(words) }
    }

    fn any(&self, mut is: impl FnMut(&str) -> bool) -> bool {
        match self {
            Words::All => true,
            Words::These(words) => words.iter().any(|word| is(word)),
        }
    }

    fn has(&self, word: &str) -> bool {
        self.any(|own| own == word)
    }
}

impl ResourceRule {
    fn of(rule: &Value) -> Self {
        ResourceRule {
            verbs: Words::of(&rule["verbs"]),
            groups: Words::of(&rule["apiGroups"]),
            resources: Words::of(&rule["resources"]),
            namespaces: Words::of(&rule["namespaces"]),
            cluster_scope: rule["clusterScope"] == true,
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        let is_resource = |word: &str| match (word.split_once('/'), info.subresource.as_str()) {
            (Some((resource, subresource)), own) => resource == info.resource && subresource == own,
            (None, "") => word == info.resource,
            (None, _) => false,
        };
        self.verbs.has(info.verb)
            && self.groups.has(&info.group)
            && self.resources.any(is_resource)
            && if info.namespace.is_empty() { self.cluster_scope } else { self.namespaces.has(&info.namespace) }
    }
}

impl PathRule {
    /// A path is meant with all that is below it.
    fn matches(&self, verb: &str, path: &str) -> bool {
        let is_path = |word: &str| {
            let parent = word.trim_end_matches('*').trim_end_matches('/');
            word == "*" || word == path || path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
        };
        self.verbs.has(verb) && self.paths.any(is_path)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::request::Query;

    fn matches(rule: Value, user: &str, groups: &[&str], method: Method, path: &str) -> bool {
        let user = UserInfo {
            name: user.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..UserInfo::default()
        };
        let info = RequestInfo::parse(&method, path, &Query::default());
        Rules::of(&json!({"rules": [rule]})).match_request(&Subject { user: &user, info: &info, path })
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let by = |subject: Value, user: &str, groups: &[&str]| {
            let rule = json!({"subjects": [subject], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
            matches(rule, user, groups, Method::GET, "/version")
        };
        let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
        let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
        let account =
            |name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": name}});
        assert!(by(user("a"), "a", &[]) && by(user("*"), "a", &[]) && !by(user("b"), "a", &["b"]));
        assert!(by(group("g"), "a", &["f", "g"]) && by(group("*"), "a", &[]) && !by(group("a"), "a", &["g"]));
        assert!(by(account("x"), "system:serviceaccount:ns:x", &[]));
        assert!(by(account("*"), "system:serviceaccount:ns:x", &[]));
        assert!(!by(account("*"), "system:serviceaccount:ns2:x", &[]) && !by(account("*"), "x", &[]));
    }

    #[test]
    fn resources_are_told_by_verb_group_resource_and_place() {
        let by = |rule: Value, method: Method, path: &str| {
            let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [rule]});
            matches(rule, "a", &[], method, path)
        };
        let rule = |resource: &str, namespaces: Value, cluster: bool| {
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": [resource], "namespaces": namespaces,
                "clusterScope": cluster})
        };
        let pods = || rule("pods", json!(["ns"]), false);
        assert!(by(pods(), Method::GET, "/api/v1/namespaces/ns/pods/p"));
        assert!(by(pods(), Method::GET, "/api/v1/namespaces/ns/pods"));
        assert!(!by(pods(), Method::POST, "/api/v1/namespaces/ns/pods"));
        assert!(!by(pods(), Method::GET, "/api/v1/namespaces/other/pods"));
        assert!(!by(pods(), Method::GET, "/api/v1/pods"));
        assert!(!by(pods(), Method::GET, "/apis/apps/v1/namespaces/ns/pods"));
        assert!(!by(pods(), Method::GET, "/api/v1/namespaces/ns/pods/p/status"));
        assert!(by(rule("pods/status", json!(["*"]), false), Method::GET, "/api/v1/namespaces/ns/pods/p/status"));
        assert!(by(rule("*", json!(["*"]), true), Method::GET, "/api/v1/namespaces/ns/pods/p/status"));
        assert!(by(rule("nodes", json!([]), true), Method::GET, "/api/v1/nodes"));
        assert!(!by(rule("nodes", json!(["*"]), false), Method::GET, "/api/v1/nodes"));
        assert!(!by(pods(), Method::GET, "/version"));
    }

    #[test]
    fn other_paths_match_as_a_whole_or_by_their_beginning() {
        let by = |path: &str, asked: &str| {
            let rules = json!([{"verbs": ["get"], "nonResourceURLs": [path]}]);
            let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}], "nonResourceRules": rules});
            matches(rule, "a", &[], Method::GET, asked)
        };
        assert!(by("/healthz", "/healthz") && by("/healthz/*", "/healthz/etcd") && by("*", "/x"));
        assert!(by("/healthz", "/healthz/etcd") && by("/healthz/", "/healthz/etcd"));
        assert!(!by("/healthz/*", "/healthz") && !by("/healthz", "/healthzy") && !by("/healthz", "/livez"));
    }
}
