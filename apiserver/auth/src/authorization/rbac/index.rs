//! Roles by name, and bindings by subject, kept up to date change by change.

use std::collections::HashMap;
use std::sync::Arc;

use apiserver_storage::reader::Change;
use serde_json::Value;

use super::rule::Rule;
use crate::object::{items, text};
use crate::user::{UserInfo, service_account_name};

/// Namespace and name; an empty namespace is that of ClusterRoles.
type RoleName = (String, String);

/// One subject of one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    binding: String,
    role: RoleName,
    subject: String,
}

impl Grant {
    /// Why a request is allowed.
    pub(super) fn explain(&self) -> String {
        let (kind, binding) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.binding.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.binding)),
        };
        let role_kind = if self.role.0.is_empty() { "ClusterRole" } else { "Role" };
        format!("RBAC: allowed by {kind} {binding:?} of {role_kind} {:?} to {}", self.role.1, self.subject)
    }

    /// That the role does not exist.
    pub(super) fn missing(&self) -> String {
        let kind = if self.role.0.is_empty() { "clusterrole" } else { "role" };
        format!("{kind}.rbac.authorization.k8s.io {:?} not found", self.role.1)
    }
}

/// Grants by the name of a user, or of a group.
#[derive(Default)]
struct BySubject {
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SubjectKind {
    User,
    Group,
}

#[derive(Default)]
pub(super) struct Index {
    roles: HashMap<RoleName, Vec<Arc<Rule>>>,
    /// By namespace; those of ClusterRoleBindings under the empty one.
    grants: HashMap<String, BySubject>,
}

impl Index {
    pub(super) fn role(&self, namespace: &str, name: &str) -> Option<&[Arc<Rule>]> {
        self.roles.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice)
    }

    pub(super) fn role_of(&self, grant: &Grant) -> Option<&[Arc<Rule>]> {
        self.roles.get(&grant.role).map(Vec::as_slice)
    }

    /// What is granted to the user, cluster-wide first, then in the namespace.
    pub(super) fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Grant> {
        let local = (!namespace.is_empty()).then(|| self.grants.get(namespace)).flatten();
        self.grants.get("").into_iter().chain(local).flat_map(|by| by.of(user)).map(AsRef::as_ref)
    }

    pub(super) fn apply(&mut self, change: &Change<'_>) {
        if change.resource.resource.ends_with("roles") {
            self.apply_role(change);
        } else {
            if let Some(old) = change.old.as_deref() {
                self.remove_binding(change, old);
            }
            if let Some(new) = change.new.as_deref() {
                self.add_binding(change, new);
            }
        }
    }

    fn apply_role(&mut self, change: &Change<'_>) {
        let key = (change.namespace.to_owned(), change.name.to_owned());
        match change.new.as_deref() {
            Some(role) => self.roles.insert(key, Rule::all_of(role)),
            None => self.roles.remove(&key),
        };
    }

    fn add_binding(&mut self, change: &Change<'_>, binding: &Value) {
        let by = self.grants.entry(change.namespace.to_owned()).or_default();
        for (kind, name, grant) in grants_of(change, binding) {
            let list = by.map(kind).entry(name).or_default();
            let at = list.partition_point(|other| other.binding < grant.binding);
            list.insert(at, Arc::new(grant));
        }
    }

    fn remove_binding(&mut self, change: &Change<'_>, binding: &Value) {
        let Some(by) = self.grants.get_mut(change.namespace) else { return };
        for (kind, name, _) in grants_of(change, binding) {
            let map = by.map(kind);
            let Some(list) = map.get_mut(&name) else { continue };
            list.retain(|grant| grant.binding != change.name);
            if list.is_empty() {
                map.remove(&name);
            }
        }
        if by.users.is_empty() && by.groups.is_empty() {
            self.grants.remove(change.namespace);
        }
    }
}

impl BySubject {
    fn map(&mut self, kind: SubjectKind) -> &mut HashMap<String, Vec<Arc<Grant>>> {
        match kind {
            SubjectKind::User => &mut self.users,
            SubjectKind::Group => &mut self.groups,
        }
    }

    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Arc<Grant>> {
        let own = self.users.get(&user.name).into_iter().flatten();
        own.chain(user.groups.iter().filter_map(|group| self.groups.get(group)).flatten())
    }
}

/// The grants that a binding makes, with the subjects that they are found by.
fn grants_of<'a>(
    change: &'a Change<'_>,
    binding: &'a Value,
) -> impl Iterator<Item = (SubjectKind, String, Grant)> + 'a {
    let role_namespace = if text(binding, "/roleRef/kind") == "Role" { change.namespace } else { "" };
    let role = (role_namespace.to_owned(), text(binding, "/roleRef/name").to_owned());
    items(binding, "/subjects").iter().filter_map(move |subject| {
        let (kind, name, shown) = subject_of(subject, change.namespace)?;
        let grant = Grant {
            namespace: change.namespace.to_owned(),
            binding: change.name.to_owned(),
            role: role.clone(),
            subject: shown,
        };
        Some((kind, name, grant))
    })
}

/// How the subject is found, and how it is shown.
fn subject_of(subject: &Value, binding_namespace: &str) -> Option<(SubjectKind, String, String)> {
    let name = text(subject, "/name");
    match text(subject, "/kind") {
        "User" => Some((SubjectKind::User, name.to_owned(), format!("User {name:?}"))),
        "Group" => Some((SubjectKind::Group, name.to_owned(), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = text(subject, "/namespace");
            let namespace = if own.is_empty() { binding_namespace } else { own };
            let shown = format!("ServiceAccount {:?}", format!("{name}/{namespace}"));
            (!namespace.is_empty()).then(|| (SubjectKind::User, service_account_name(namespace, name), shown))
        }
        _ => None,
    }
}
