//! Which objects a list or a watch is about: namespace, label selector, field selector.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use apimachinery::fields;
use apimachinery::labels;
use apimachinery::{ApiError, schema};
use apiserver_storage::{Object, Scope, Snapshot, Term, keys};

use crate::request::{Query, RequestInfo};
use crate::served::Served;

/// A field that can be selected on: its name in selectors, its path in the object, its value where it is absent.
pub struct SelectableField {
    name: Cow<'static, str>,
    path: FieldPath,
    absent: &'static str,
}

enum FieldPath {
    Static(&'static [&'static str]),
    Custom(Vec<String>),
}

impl SelectableField {
    /// A field of a custom resource (`selectableFields`, KEP-4358).
    pub fn custom(path: &[String]) -> Self {
        SelectableField { name: path.join(".").into(), path: FieldPath::Custom(path.to_vec()), absent: "" }
    }

    fn value<'o>(&self, object: &'o Object) -> Option<Cow<'o, str>> {
        match &self.path {
            FieldPath::Static(path) => object.text(path),
            FieldPath::Custom(path) => object.text(&path.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }
}

/// A field of the table, or of a definition.
#[derive(Clone)]
enum Selected {
    Builtin(&'static SelectableField),
    Custom(Arc<SelectableField>),
}

impl Deref for Selected {
    type Target = SelectableField;

    fn deref(&self) -> &SelectableField {
        match self {
            Selected::Builtin(field) => field,
            Selected::Custom(field) => field,
        }
    }
}

fn find(served: &Served, name: &str) -> Option<Selected> {
    match &served.custom {
        Some(custom) => custom.fields.iter().find(|field| field.name == name).cloned().map(Selected::Custom),
        None => selectable(&served.resource).iter().find(|field| field.name == name).map(Selected::Builtin),
    }
}

const fn field(name: &'static str, path: &'static [&'static str], absent: &'static str) -> SelectableField {
    SelectableField { name: Cow::Borrowed(name), path: FieldPath::Static(path), absent }
}

const EVENT: &[SelectableField] = &[
    field("involvedObject.kind", &["involvedObject", "kind"], ""),
    field("involvedObject.namespace", &["involvedObject", "namespace"], ""),
    field("involvedObject.name", &["involvedObject", "name"], ""),
    field("involvedObject.uid", &["involvedObject", "uid"], ""),
    field("involvedObject.apiVersion", &["involvedObject", "apiVersion"], ""),
    field("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"], ""),
    field("involvedObject.fieldPath", &["involvedObject", "fieldPath"], ""),
    field("reason", &["reason"], ""),
    field("reportingComponent", &["reportingComponent"], ""),
    field("source", &["source", "component"], ""),
    field("type", &["type"], ""),
];

/// The selectable fields of built-in resources beyond `metadata.name` and `metadata.namespace` (Kubernetes documentation, "Field
/// Selectors", list of supported fields).
fn selectable(resource: &schema::Resource) -> &'static [SelectableField] {
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "pods") => {
            const {
                &[
                    field("spec.nodeName", &["spec", "nodeName"], ""),
                    field("spec.restartPolicy", &["spec", "restartPolicy"], ""),
                    field("spec.schedulerName", &["spec", "schedulerName"], ""),
                    field("spec.serviceAccountName", &["spec", "serviceAccountName"], ""),
                    field("spec.hostNetwork", &["spec", "hostNetwork"], "false"),
                    field("status.phase", &["status", "phase"], ""),
                    field("status.podIP", &["status", "podIP"], ""),
                    field("status.nominatedNodeName", &["status", "nominatedNodeName"], ""),
                ]
            }
        }
        ("" | "events.k8s.io", "events") => EVENT,
        ("", "secrets") => const { &[field("type", &["type"], "")] },
        ("", "namespaces") => const { &[field("status.phase", &["status", "phase"], "")] },
        ("", "nodes") => const { &[field("spec.unschedulable", &["spec", "unschedulable"], "false")] },
        ("", "services") => {
            const { &[field("spec.clusterIP", &["spec", "clusterIP"], ""), field("spec.type", &["spec", "type"], "")] }
        }
        ("", "replicationcontrollers") | ("apps", "replicasets") => {
            const { &[field("status.replicas", &["status", "replicas"], "0")] }
        }
        ("batch", "jobs") => const { &[field("status.successful", &["status", "succeeded"], "0")] },
        ("certificates.k8s.io", "certificatesigningrequests") => {
            const { &[field("spec.signerName", &["spec", "signerName"], "")] }
        }
        ("networking.k8s.io", "ipaddresses") => {
            const { &[field("spec.parentRef.name", &["spec", "parentRef", "name"], "")] }
        }
        ("resource.k8s.io", "resourceslices") => {
            const { &[field("spec.nodeName", &["spec", "nodeName"], ""), field("spec.driver", &["spec", "driver"], "")] }
        }
        _ => &[],
    }
}

#[derive(Clone)]
struct FieldRequirement {
    field: Selected,
    requirement: fields::Requirement,
    /// Whether the field is the one of the resource that has an index.
    indexed: bool,
}

impl FieldRequirement {
    fn holds(&self, object: &Object) -> bool {
        let value = if self.indexed { object.indexed_text() } else { self.field.value(object) };
        let value = value.filter(|text| !text.is_empty()).unwrap_or(Cow::Borrowed(self.field.absent));
        (value == self.requirement.value) == self.requirement.equals
    }
}

/// What a list, a watch or a deletecollection selects.
#[derive(Clone)]
pub struct Selection {
    resource_prefix: String,
    namespaced: bool,
    namespace: String,
    /// The exact name that `metadata.name` is required to have.
    name: Option<String>,
    labels: Option<labels::Selector>,
    fields: Vec<FieldRequirement>,
    /// Requirements on `metadata.name` and `metadata.namespace` other than the exact name.
    metadata: Vec<fields::Requirement>,
}

impl Selection {
    /// The selection of a request.
    ///
    /// # Errors
    /// `BadRequest` when a selector cannot be parsed, or names a field that cannot be selected on.
    pub fn of(served: &Served, info: &RequestInfo, query: &Query) -> Result<Self, ApiError> {
        let mut selection = Selection {
            resource_prefix: served.prefix.clone(),
            namespaced: served.resource.namespaced,
            namespace: if served.resource.namespaced { info.namespace.clone() } else { String::new() },
            name: (!info.name.is_empty()).then(|| info.name.clone()),
            labels: None,
            fields: Vec::new(),
            metadata: Vec::new(),
        };
        let text = query.get("labelSelector");
        if !text.is_empty() {
            let parsed = labels::Selector::parse(text)
                .map_err(|error| ApiError::bad_request(format!("unable to parse requirement: {error}")))?;
            selection.labels = (!parsed.is_empty()).then_some(parsed);
        }
        let text = query.get("fieldSelector");
        if !text.is_empty() {
            selection.take_fields(served, text)?;
        }
        Ok(selection)
    }

    fn take_fields(&mut self, served: &Served, text: &str) -> Result<(), ApiError> {
        let parsed = fields::Selector::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
        for requirement in parsed.requirements() {
            match requirement.field.as_str() {
                "metadata.name" if requirement.equals => self.require_name(requirement),
                "metadata.namespace"
                    if requirement.equals && self.namespace.is_empty() && served.resource.namespaced =>
                {
                    self.namespace = requirement.value.clone();
                }
                "metadata.name" | "metadata.namespace" => self.metadata.push(requirement.clone()),
                name => {
                    let name = name.replace("regarding.", "involvedObject.");
                    let field = find(served, &name).ok_or_else(|| {
                        ApiError::bad_request(format!("field label not supported: {}", requirement.field))
                    })?;
                    let indexed = keys::indexed_field(&self.resource_prefix).is_some_and(|it| it.name == field.name);
                    self.fields.push(FieldRequirement { field, requirement: requirement.clone(), indexed });
                }
            }
        }
        Ok(())
    }

    fn require_name(&mut self, requirement: &fields::Requirement) {
        if self.name.as_ref().is_some_and(|name| *name != requirement.value) {
            // Two different names: nothing matches, which the check of each object finds.
            self.metadata.push(requirement.clone());
        } else {
            self.name = Some(requirement.value.clone());
        }
    }

    /// Whether there is neither a label nor a field selector.
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty() && self.metadata.is_empty() && self.name.is_none()
    }

    /// The prefix of the keys that can match.
    pub fn prefix(&self) -> String {
        if self.namespace.is_empty() {
            self.resource_prefix.clone()
        } else {
            format!("{}{}/", self.resource_prefix, self.namespace)
        }
    }

    /// Whether the object, which is one of the resource, is selected.
    pub fn matches(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || object.namespace() == self.namespace) && self.matches_below_prefix(object)
    }

    /// As [`Selection::matches`], for an object whose key has the selection's prefix.
    fn matches_below_prefix(&self, object: &Object) -> bool {
        self.name.as_ref().is_none_or(|name| object.name() == name)
            && self.labels.as_ref().is_none_or(|selector| selector.matches(|key| object.label(key)))
            && self.fields.iter().all(|field| field.holds(object))
            && self.metadata.iter().all(|requirement| {
                let of_name = requirement.field == "metadata.name";
                let value = if of_name { object.name() } else { object.namespace() };
                (value == requirement.value) == requirement.equals
            })
    }

    /// The selected objects of a snapshot in key order, from `start` on.
    pub fn select<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        start: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a std::sync::Arc<Object>> + 'a> {
        let prefix = self.prefix();
        if let Some(key) = self.single_key() {
            let found = snapshot.get(&key).filter(|object| start.is_none_or(|start| &*object.key >= start));
            return Box::new(found.into_iter().filter(|object| self.matches_below_prefix(object)));
        }
        match self.term() {
            Some(term) => {
                let indexed = snapshot.indexed(&self.resource_prefix, term, &prefix, start);
                Box::new(indexed.filter(|object| self.matches_below_prefix(object)))
            }
            None if self.is_everything() => Box::new(snapshot.range(&prefix, start)),
            None => Box::new(snapshot.range(&prefix, start).filter(|object| self.matches_below_prefix(object))),
        }
    }

    fn single_key(&self) -> Option<String> {
        let name = self.name.as_ref().filter(|_| !self.namespaced || !self.namespace.is_empty())?;
        Some(format!("{}{name}", self.prefix()))
    }

    fn term(&self) -> Option<Term<'_>> {
        let exact = |field: &&FieldRequirement| {
            field.indexed && field.requirement.equals && !field.requirement.value.is_empty()
        };
        if let Some(by_field) = self.fields.iter().find(exact) {
            return Some(Term::Field(&by_field.field.name, &by_field.requirement.value));
        }
        let mut requirements = self.labels.as_ref()?.requirements().iter();
        requirements.find_map(|requirement| requirement.exact().map(|value| Term::Label(requirement.key(), value)))
    }

    /// The watch log that has all events of this selection.
    pub fn watch_scope(&self) -> Scope {
        if let Some(key) = self.single_key() {
            return Scope::Key(key.into());
        }
        match self.term() {
            Some(Term::Field(_, value)) => Scope::Field(value.into()),
            _ if !self.namespace.is_empty() => Scope::Namespace(self.namespace.as_str().into()),
            _ => Scope::All,
        }
    }
}
