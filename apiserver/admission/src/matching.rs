//! Which requests a rule of the API is about: resources, operations, scope, names, and labels of objects and namespaces.
//!
//! Kubernetes documentation, "Dynamic Admission Control", "Matching requests: rules"; the API reference of `MatchResources`.

use apimachinery::labels::{Selector, SelectorError};
use serde_json::Value;

use crate::object::items;
use crate::{Attributes, Form, Name};

/// The group of webhook configurations and admission policies.
pub(crate) const GROUP: &str = "admissionregistration.k8s.io";

/// Resources that decide about admission: nothing that admits is asked about them, or a cluster could lock itself up.
const EXEMPT: [&str; 6] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

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

    /// Whether the rule is about the request, if it were for this form of the resource.
    pub fn matches(&self, a: &Attributes<'_>, resource: &Name) -> bool {
        names(&self.operations, a.operation.as_str())
            && self.matches_scope(a)
            && (self.names.is_empty() || self.names.iter().any(|name| name == a.name))
            && names(&self.groups, &resource.group)
            && names(&self.versions, &resource.version)
            && self.matches_resource(&resource.name, a.subresource)
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

    fn matches_resource(&self, name: &str, subresource: &str) -> bool {
        self.resources.iter().any(|wanted| {
            let (wanted, part) = wanted.split_once('/').unwrap_or((wanted, ""));
            (wanted == "*" || wanted == name) && (part == "*" || part == subresource)
        })
    }
}

/// The form in which a request is shown to whom these rules are of; none if no rule is about it. With `equivalent`, the
/// `matchPolicy`, rules may also name another form of the same objects.
pub fn form(rules: &[Rule], a: &Attributes<'_>, equivalent: bool) -> Option<Form> {
    let own = a.form();
    if rules.iter().any(|rule| rule.matches(a, &own.resource)) {
        return Some(own);
    }
    if !equivalent || rules.is_empty() {
        return None;
    }
    let others = a.request.other_forms();
    rules.iter().find_map(|rule| others.iter().find(|form| rule.matches(a, &form.resource))).cloned()
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

    /// Whether the request is about what they select.
    pub fn match_request(&self, request: &Request<'_>) -> bool {
        self.match_namespace(request) && self.match_object(request)
    }

    /// Whether the labels of the namespace that the object is in decide.
    pub fn need_namespace(&self, a: &Attributes<'_>) -> bool {
        !self.namespaces.is_empty() && !a.namespace.is_empty() && !a.is("", "namespaces")
    }

    /// Objects of the cluster are in no namespace, and so never left out; a Namespace is selected by its own labels.
    pub fn match_namespace(&self, request: &Request<'_>) -> bool {
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

    /// By the labels before or after.
    pub fn match_object(&self, request: &Request<'_>) -> bool {
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

    /// The form in which the request is among them, if it is. Without rules any is that the selectors select.
    pub fn form(&self, request: &Request<'_>) -> Option<Form> {
        let a = request.attributes;
        let among = |rules: &[Rule]| form(rules, a, self.equivalent);
        let found = if self.rules.is_empty() { Some(a.form()) } else { among(&self.rules) };
        found.filter(|_| among(&self.excluded).is_none() && self.selectors.match_request(request))
    }
}

/// Whether no policy and no webhook is asked about a request: it is for what configures them.
pub fn is_exempt(a: &Attributes<'_>) -> bool {
    a.resource.group == GROUP && EXEMPT.contains(&a.resource.resource.as_str())
}

#[cfg(test)]
mod tests;
