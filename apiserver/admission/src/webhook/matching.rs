//! Which requests a webhook is asked about: its rules, its selectors and its conditions.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Matching requests").

use std::collections::HashSet;
use std::sync::Arc;

use apimachinery::labels::Selector;
use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{GroupResource, Reader};
use serde_json::Value;

use super::conditions::{self, Verdict};
use super::hook::Hook;
use super::review;
use crate::object::{items, text};
use crate::{Attributes, Form, Name, Operation};

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");
const ANY: &str = "*";

impl Operation {
    /// As rules and reviews name it.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// Operations, and the resources that they are done to.
pub(super) struct Rule {
    operations: HashSet<String>,
    groups: HashSet<String>,
    versions: HashSet<String>,
    resources: Vec<(String, String)>,
    scope: String,
}

fn words(value: &Value, list: &str) -> HashSet<String> {
    items(value, list).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(words: &HashSet<String>, word: &str) -> bool {
    words.contains(ANY) || words.contains(word)
}

impl Rule {
    pub(super) fn of(rule: &Value) -> Self {
        let split = |resource: &str| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            (resource.to_owned(), subresource.to_owned())
        };
        Rule {
            operations: words(rule, "/operations"),
            groups: words(rule, "/apiGroups"),
            versions: words(rule, "/apiVersions"),
            resources: items(rule, "/resources").iter().filter_map(Value::as_str).map(split).collect(),
            scope: text(rule, "/scope").to_owned(),
        }
    }

    fn matches(&self, a: &Attributes<'_>, resource: &Name) -> bool {
        self.has_scope(a)
            && has(&self.operations, a.operation.word())
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.resources.iter().any(|(name, subresource)| {
                (name == ANY || *name == resource.name) && (subresource == ANY || subresource == a.subresource)
            })
    }

    /// A Namespace is an object of the cluster, though requests for it carry a namespace.
    fn has_scope(&self, a: &Attributes<'_>) -> bool {
        let namespaced = !a.is_any("", "namespaces") && !a.namespace.is_empty();
        match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        }
    }
}

/// A request as the webhooks of a plugin see it.
pub(crate) struct Matching<'a> {
    pub(crate) reader: &'a Arc<dyn Reader>,
    pub(crate) a: &'a Attributes<'a>,
    pub(crate) old: Option<&'a Value>,
}

impl Matching<'_> {
    /// The form in which the webhook is to be asked about the object; none if it is not to be asked.
    ///
    /// # Errors
    /// Selectors that cannot be used, a namespace that is not there, conditions that fail.
    pub(crate) async fn form(&self, hook: &Hook, object: Option<&Value>) -> Result<Option<Form>, ApiError> {
        // A failure counts only where the rules say that the request is the webhook's affair.
        let namespace = self.namespace_matches(hook, object).await;
        let labels = self.labels_match(hook, object);
        if matches!(namespace, Ok(false)) || matches!(labels, Ok(false)) {
            return Ok(None);
        }
        let Some(form) = self.form_by_rules(hook) else { return Ok(None) };
        namespace?;
        labels?;
        if hook.conditions.is_empty() {
            return Ok(Some(form));
        }
        let show = |value: Option<&Value>| value.map_or(Value::Null, |value| self.a.request.show(value, &form));
        let request = review::attributes(self.a, &form, object);
        match conditions::ask(&hook.conditions, &show(object), &show(self.old), &request) {
            Verdict::Holds => Ok(Some(form)),
            Verdict::DoesNotHold => Ok(None),
            Verdict::Failed(_) if hook.ignores_failures => Ok(None),
            Verdict::Failed(errors) => Err(self.a.forbidden(object, &errors)),
        }
    }

    fn form_by_rules(&self, hook: &Hook) -> Option<Form> {
        let own = self.a.form();
        if hook.rules.iter().any(|rule| rule.matches(self.a, &own.resource)) {
            return Some(own);
        }
        if !hook.equivalent {
            return None;
        }
        let others = self.a.request.other_forms();
        let matching = |rule: &Rule| others.iter().find(|form| rule.matches(self.a, &form.resource)).cloned();
        hook.rules.iter().find_map(matching)
    }

    fn labels_match(&self, hook: &Hook, object: Option<&Value>) -> Result<bool, ApiError> {
        let selector = hook.objects.as_ref().map_err(ApiError::internal)?;
        let matches = |object: Option<&Value>| object.is_some_and(|object| selector.matches_object(object));
        Ok(selector.is_empty() || matches(object) || matches(self.old))
    }

    async fn namespace_matches(&self, hook: &Hook, object: Option<&Value>) -> Result<bool, ApiError> {
        let a = self.a;
        let is_namespace = a.resource.resource == "namespaces";
        if a.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = hook.namespaces.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        if is_namespace && a.subresource.is_empty() && a.writes() {
            return Ok(object.is_some_and(|object| selector.matches_object(object)));
        }
        self.namespace_has(selector).await
    }

    async fn namespace_has(&self, selector: &Selector) -> Result<bool, ApiError> {
        let name = self.a.namespace;
        let found = match self.reader.get(NAMESPACES, "", name) {
            Some(found) => Some(found),
            None => self.reader.get_consistent(NAMESPACES, "", name).await?,
        };
        let namespace = found.ok_or_else(|| ApiError::not_found("", "namespaces", name))?;
        Ok(selector.matches_map(meta::labels(&namespace)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::attributes;

    fn matches(rule: Value, a: &Attributes<'_>) -> bool {
        let mut whole = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
        for (field, value) in rule.as_object().expect("fields") {
            whole[field] = value.clone();
        }
        Rule::of(&whole).matches(a, &a.form().resource)
    }

    #[test]
    fn a_rule_names_operations_resources_and_a_scope() {
        let pods = attributes(Operation::Create, "", "pods");
        let attach = Attributes { subresource: "attach", operation: Operation::Connect, ..pods };
        let namespace = Attributes { namespace: "dev", ..attributes(Operation::Create, "", "namespaces") };
        for (rule, a, expected) in [
            (json!({}), &pods, true),
            (json!({"operations": ["CREATE", "UPDATE"]}), &pods, true),
            (json!({"operations": ["CREATE"]}), &attach, false),
            (json!({"operations": ["CONNECT"], "resources": ["pods/attach"]}), &attach, true),
            (json!({"resources": ["pods"]}), &attach, false),
            (json!({"resources": ["pods/*"]}), &attach, true),
            (json!({"resources": ["pods/*"]}), &pods, true),
            (json!({"resources": ["*"]}), &attach, false),
            (json!({"resources": ["*/attach"]}), &attach, true),
            (json!({"apiGroups": ["apps"]}), &pods, false),
            (json!({"apiVersions": ["v1beta1"]}), &pods, false),
            (json!({"scope": "Namespaced"}), &pods, true),
            (json!({"scope": "Cluster"}), &pods, false),
            (json!({"scope": "Cluster"}), &namespace, true),
            (json!({"scope": "Namespaced"}), &namespace, false),
        ] {
            assert_eq!(matches(rule.clone(), a), expected, "{rule}");
        }
    }

    #[test]
    fn the_kind_of_a_subresource_is_its_own() {
        let pods = attributes(Operation::Create, "", "pods");
        let eviction = Attributes { subresource: "eviction", ..pods }.form();
        assert_eq!((eviction.kind.group.as_str(), eviction.kind.name.as_str()), ("policy", "Eviction"));
        assert_eq!((eviction.resource.group.as_str(), eviction.resource.name.as_str()), ("", "pods"));
    }
}
