//! Which requests a rule of the API is about: resources, operations, scope, names, and labels of objects and namespaces.
//!
//! Kubernetes documentation, "Dynamic Admission Control", "Matching requests: rules"; the API reference of `MatchResources`.

use apimachinery::labels::{Selector, SelectorError};
use apimachinery::schema::Schema;
use serde_json::Value;

use crate::object::items;
use crate::{Attributes, Operation};

/// A `RuleWithOperations`, or one with `resourceNames`.
#[derive(Clone, Debug)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    /// Empty for any.
    names: Vec<String>,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
}

/// A request as rules and selectors see it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub attributes: &'a Attributes<'a>,
    pub object: Option<&'a Value>,
    pub old: Option<&'a Value>,
    /// The namespace of the object, where it has one that is there.
    pub namespace: Option<&'a Value>,
}

impl Operation {
    /// The name in rules and reviews.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

fn texts(rule: &Value, field: &str) -> Vec<String> {
    items(rule, &format!("/{field}")).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn names(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// A rule from its JSON form.
    pub fn of(rule: &Value) -> Self {
        Rule {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            names: texts(rule, "resourceNames"),
            scope: match rule["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::All,
            },
        }
    }

    /// Whether the rule is about the request; with `equivalent` also where it names another version of the resource.
    pub fn matches(&self, a: &Attributes<'_>, equivalent: bool) -> bool {
        names(&self.operations, a.operation.as_str())
            && self.matches_scope(a)
            && (self.names.is_empty() || self.names.iter().any(|name| name == a.name))
            && self.matches_resource(a)
            && (self.matches_version(&a.resource.group, &a.resource.version) || equivalent && self.matches_other(a))
    }

    fn matches_scope(&self, a: &Attributes<'_>) -> bool {
        // A request for a Namespace carries its name as the namespace too.
        let cluster = a.namespace.is_empty() || a.is_any("", "namespaces");
        match self.scope {
            Scope::All => true,
            Scope::Cluster => cluster,
            Scope::Namespaced => !cluster,
        }
    }

    fn matches_resource(&self, a: &Attributes<'_>) -> bool {
        self.resources.iter().any(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            (resource == "*" || resource == a.resource.resource) && (subresource == "*" || subresource == a.subresource)
        })
    }

    fn matches_version(&self, group: &str, version: &str) -> bool {
        names(&self.groups, group) && names(&self.versions, version)
    }

    /// Whether another version of the resource is meant. All versions of a custom resource are the same objects.
    fn matches_other(&self, a: &Attributes<'_>) -> bool {
        let (group, resource) = (&a.resource.group, &a.resource.resource);
        let mut builtin = Schema::builtin().resources().iter().filter(|other| &other.resource == resource).peekable();
        let is_builtin = Schema::builtin().resource(group, &a.resource.version, resource).is_some();
        if builtin.peek().is_none() || !is_builtin {
            return names(&self.groups, group);
        }
        let is_event = |group: &str| resource == "events" && matches!(group, "" | "events.k8s.io");
        builtin
            .filter(|other| other.group == *group || is_event(group) && is_event(&other.group))
            .any(|other| self.matches_version(&other.group, &other.version))
    }
}

/// `MatchResources` of policies and bindings.
#[derive(Clone, Debug)]
pub struct MatchResources {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    selectors: Selectors,
    equivalent: bool,
}

/// The selectors of namespaces and objects, which webhooks have as well.
#[derive(Clone, Debug)]
pub struct Selectors {
    namespaces: Selector,
    objects: Selector,
}

fn selector(holder: &Value, field: &str) -> Result<Selector, SelectorError> {
    match holder.get(field).filter(|selector| !selector.is_null()) {
        Some(selector) => Selector::from_label_selector(Some(selector)),
        None => Ok(Selector::everything()),
    }
}

impl Selectors {
    /// The `namespaceSelector` and `objectSelector` of an object.
    ///
    /// # Errors
    /// Selectors that cannot be.
    pub fn of(holder: &Value) -> Result<Self, SelectorError> {
        Ok(Selectors {
            namespaces: selector(holder, "namespaceSelector")?,
            objects: selector(holder, "objectSelector")?,
        })
    }

    /// Whether the request is about what they select: by the object's labels before or after.
    pub fn match_request(&self, request: &Request<'_>) -> bool {
        self.match_namespace(request) && self.match_object(request)
    }

    /// Objects of the cluster are in no namespace, and so never left out; a Namespace is selected by its own labels.
    fn match_namespace(&self, request: &Request<'_>) -> bool {
        let a = request.attributes;
        if self.namespaces.is_empty() {
            return true;
        }
        if a.is_any("", "namespaces") {
            let own = if a.subresource.is_empty() { request.object.or(request.old) } else { request.namespace };
            return own.or(request.old).is_none_or(|namespace| self.namespaces.matches_object(namespace));
        }
        a.namespace.is_empty() || request.namespace.is_some_and(|namespace| self.namespaces.matches_object(namespace))
    }

    fn match_object(&self, request: &Request<'_>) -> bool {
        let matches = |object: Option<&Value>| {
            object.is_some_and(|object| object["metadata"].is_object() && self.objects.matches_object(object))
        };
        self.objects.is_empty() || matches(request.object) || matches(request.old)
    }
}

impl MatchResources {
    /// Matches from their JSON form.
    ///
    /// # Errors
    /// Selectors that cannot be.
    pub fn of(resources: &Value) -> Result<Self, SelectorError> {
        let rules = |field: &str| items(resources, field).iter().map(Rule::of).collect();
        Ok(MatchResources {
            rules: rules("/resourceRules"),
            excluded: rules("/excludeResourceRules"),
            selectors: Selectors::of(resources)?,
            equivalent: resources["matchPolicy"] != "Exact",
        })
    }

    /// Whether the request is among them. Without rules any is that the selectors select.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(request.attributes, self.equivalent));
        (self.rules.is_empty() || any(&self.rules)) && !any(&self.excluded) && self.selectors.match_request(request)
    }
}

/// Whether no policy and no webhook is asked about a request: what configures them must stay in reach of those who would repair it.
pub fn is_exempt(a: &Attributes<'_>) -> bool {
    a.resource.group == "admissionregistration.k8s.io"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::attributes;

    #[test]
    fn rules_name_operations_resources_versions_and_scope() {
        let rule = |change: Value| {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
                "resources": ["deployments"]});
            for (field, value) in change.as_object().into_iter().flatten() {
                rule[field] = value.clone();
            }
            Rule::of(&rule)
        };
        let mut a = attributes(Operation::Create, "apps", "deployments");
        a.name = "web";
        for (change, exact, equivalent) in [
            (json!({}), true, true),
            (json!({"operations": ["*"]}), true, true),
            (json!({"operations": ["UPDATE", "DELETE"]}), false, false),
            (json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}), true, true),
            (json!({"apiGroups": [""]}), false, false),
            (json!({"apiVersions": ["v2"]}), false, false),
            (json!({"resources": ["deployments/status", "pods"]}), false, false),
            (json!({"resources": ["*/*"]}), true, true),
            (json!({"resources": ["deployments/*"]}), true, true),
            (json!({"scope": "Namespaced"}), true, true),
            (json!({"scope": "Cluster"}), false, false),
            (json!({"resourceNames": ["web"]}), true, true),
            (json!({"resourceNames": ["other"]}), false, false),
        ] {
            let rule = rule(change.clone());
            assert_eq!((rule.matches(&a, false), rule.matches(&a, true)), (exact, equivalent), "{change}");
        }
        a.subresource = "scale";
        assert!(!rule(json!({})).matches(&a, true));
        assert!(rule(json!({"resources": ["*/scale"]})).matches(&a, false));
    }

    #[test]
    fn equivalent_rules_name_another_version() {
        let mut a = attributes(Operation::Create, "", "events");
        a.namespace = "dev";
        let rule = Rule::of(&json!({"operations": ["*"], "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"],
            "resources": ["events"]}));
        assert!(!rule.matches(&a, false) && rule.matches(&a, true));
    }

    #[test]
    fn selectors_look_at_labels_before_and_after() {
        let resources = json!({"namespaceSelector": {"matchLabels": {"env": "test"}},
            "objectSelector": {"matchLabels": {"app": "a"}}});
        let selectors = Selectors::of(&resources).expect("selectors");
        let labelled = |key: &str, value: &str| json!({"metadata": {"name": "x", "labels": {key: value}}});
        let (test, prod) = (labelled("env", "test"), labelled("env", "prod"));
        let (with, without) = (labelled("app", "a"), labelled("app", "b"));
        let a = attributes(Operation::Update, "", "pods");
        for (object, old, namespace, wanted) in [
            (&with, &with, &test, true),
            (&with, &with, &prod, false),
            (&without, &with, &test, true),
            (&without, &without, &test, false),
        ] {
            let request = Request { attributes: &a, object: Some(object), old: Some(old), namespace: Some(namespace) };
            assert_eq!(selectors.match_request(&request), wanted, "{object} {old} {namespace}");
        }
        let cluster = attributes(Operation::Create, "", "nodes");
        let request = Request { attributes: &cluster, object: Some(&with), old: None, namespace: None };
        assert!(selectors.match_request(&request));
    }
}
