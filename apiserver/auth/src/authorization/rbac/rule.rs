//! One rule of a role: which verbs on which resources or paths.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::object::strings;
use crate::user::Attributes;

const ALL: &str = "*";

/// A PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// From a PolicyRule; fields that are not there are empty, and match nothing.
    pub fn from_value(value: &Value) -> Self {
        Rule {
            verbs: strings(value, "verbs"),
            api_groups: strings(value, "apiGroups"),
            resources: strings(value, "resources"),
            resource_names: strings(value, "resourceNames"),
            non_resource_urls: strings(value, "nonResourceURLs"),
        }
    }

    /// The rules of a Role or ClusterRole.
    pub fn all_of(role: &Value) -> Vec<Arc<Rule>> {
        crate::object::items(role, "/rules").iter().map(|rule| Arc::new(Rule::from_value(rule))).collect()
    }

    /// The rules that allow all.
    pub fn everything() -> Vec<Arc<Rule>> {
        let all = || vec![ALL.to_owned()];
        let on_resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
        let on_paths = Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() };
        vec![Arc::new(on_resources), Arc::new(on_paths)]
    }

    /// As a PolicyRule, without empty fields.
    pub fn to_value(&self) -> Value {
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        let set = fields.into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(set.map(|(key, list)| (key.to_owned(), list.clone().into())).collect::<Map<_, _>>())
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, request: &Attributes<'_>) -> bool {
        if !has(&self.verbs, request.verb) {
            return false;
        }
        if !request.is_resource_request {
            return self.non_resource_urls.iter().any(|pattern| path_matches(pattern, request.path));
        }
        has(&self.api_groups, request.group)
            && self.resources.iter().any(|pattern| resource_matches(pattern, request.resource, request.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == request.name))
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ALL || item == wanted)
}

/// `*`, `pods`, `pods/log` or `*/scale`.
pub(super) fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == ALL {
        return true;
    }
    match pattern.split_once('/') {
        Some((base, sub)) => !subresource.is_empty() && sub == subresource && (base == ALL || base == resource),
        None => subresource.is_empty() && pattern == resource,
    }
}

/// A path, or a prefix of paths before a trailing `*`.
pub(super) fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix(ALL).is_some_and(|prefix| path.starts_with(prefix))
}
