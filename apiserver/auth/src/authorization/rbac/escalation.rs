//! Nobody may give rights that they do not have: what creating or changing a role or a binding takes.
//!
//! Kubernetes documentation, "Using RBAC Authorization", "Privilege escalation prevention and bootstrapping".

use std::sync::Arc;

use apimachinery::ApiError;
use serde_json::Value;

use super::rule::{Rule, path_matches};
use super::{GROUP, Rbac};
use crate::authorization::Authorizer;
use crate::object::text;
use crate::user::{Attributes, MASTERS, UserInfo};

/// Those rules, broken down to the finest, that no rule of the owner covers.
pub fn uncovered(owner: &[Arc<Rule>], wanted: &[Arc<Rule>]) -> Vec<Rule> {
    wanted.iter().flat_map(|rule| break_down(rule)).filter(|rule| !owner.iter().any(|o| covers(o, rule))).collect()
}

/// One rule for each combination of one verb, group, resource and name, or of one verb and path.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    for verb in &rule.verbs {
        let verbs = vec![verb.clone()];
        for url in &rule.non_resource_urls {
            out.push(Rule { verbs: verbs.clone(), non_resource_urls: vec![url.clone()], ..Rule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let one = Rule {
                    verbs: verbs.clone(),
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(one);
                    continue;
                }
                let named = |name: &String| Rule { resource_names: vec![name.clone()], ..one.clone() };
                out.extend(rule.resource_names.iter().map(named));
            }
        }
    }
    out
}

/// Whether `owner` allows all that `wanted`, a rule broken down, allows.
fn covers(owner: &Rule, wanted: &Rule) -> bool {
    let all_of = |have: &[String], want: &[String]| want.iter().all(|w| have.iter().any(|h| h == "*" || h == w));
    if !all_of(&owner.verbs, &wanted.verbs) {
        return false;
    }
    if !wanted.non_resource_urls.is_empty() {
        return wanted.non_resource_urls.iter().all(|url| owner.non_resource_urls.iter().any(|o| path_matches(o, url)));
    }
    let names = owner.resource_names.is_empty()
        || (!wanted.resource_names.is_empty()
            && wanted.resource_names.iter().all(|n| owner.resource_names.contains(n)));
    all_of(&owner.api_groups, &wanted.api_groups)
        && wanted.resources.iter().all(|resource| owner.resources.iter().any(|o| resource_covers(o, resource)))
        && names
}

fn resource_covers(owner: &str, wanted: &str) -> bool {
    let same_subresource =
        matches!((owner.strip_prefix("*/"), wanted.split_once('/')), (Some(any), Some((_, sub))) if any == sub);
    owner == "*" || owner == wanted || same_subresource
}

/// Whether the user may give a Role or ClusterRole these rules. `old` is the role before an update.
pub fn check_role(
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    role: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let cluster = text(role, "/kind") == "ClusterRole";
    let resource = if cluster { "clusterroles" } else { "roles" };
    let (namespace, name) = (text(role, "/metadata/namespace"), text(role, "/metadata/name"));
    let unchanged = |field: &str| old.is_some_and(|old| same(old.get(field), role.get(field)));
    if user.in_group(MASTERS) || (unchanged("rules") && unchanged("aggregationRule")) {
        return Ok(());
    }
    if may(authorizer, user, "escalate", resource, namespace, name) {
        return Ok(());
    }
    let owned = authorizer.rules(user, namespace).rules;
    let refuse = |detail: &str| Err(ApiError::forbidden(GROUP, resource, name, detail));
    if cluster && role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) && !unchanged("aggregationRule") {
        let missing = uncovered(&owned, &Rule::everything());
        if !missing.is_empty() {
            return refuse(&format!(
                "must have cluster-admin privileges to use the aggregationRule: {}",
                grants(user, &missing)
            ));
        }
    }
    let missing = uncovered(&owned, &Rule::all_of(role));
    if missing.is_empty() { Ok(()) } else { refuse(&grants(user, &missing)) }
}

/// Whether the user may bind the role of a RoleBinding or ClusterRoleBinding.
pub fn check_binding(
    authorizer: &dyn Authorizer,
    rbac: &Rbac,
    user: &UserInfo,
    binding: &Value,
) -> Result<(), ApiError> {
    let cluster = text(binding, "/kind") == "ClusterRoleBinding";
    let resource = if cluster { "clusterrolebindings" } else { "rolebindings" };
    let (namespace, name) = (text(binding, "/metadata/namespace"), text(binding, "/metadata/name"));
    let role_name = text(binding, "/roleRef/name");
    let (role_resource, role_namespace) = match text(binding, "/roleRef/kind") {
        "Role" => ("roles", namespace),
        _ => ("clusterroles", ""),
    };
    if user.in_group(MASTERS) || may(authorizer, user, "bind", role_resource, namespace, role_name) {
        return Ok(());
    }
    let rules = rbac.role(role_namespace, role_name);
    let rules = rules.ok_or_else(|| ApiError::not_found(GROUP, role_resource, role_name))?;
    let missing = uncovered(&authorizer.rules(user, namespace).rules, &rules);
    if missing.is_empty() {
        return Ok(());
    }
    Err(ApiError::forbidden(GROUP, resource, name, &grants(user, &missing)))
}

/// Whether the user may do the verb on the named role.
fn may(authorizer: &dyn Authorizer, user: &UserInfo, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb,
        is_resource_request: true,
        group: GROUP,
        version: "v1",
        resource,
        namespace,
        name,
        ..Attributes::default()
    };
    authorizer.authorize(user, &attributes).allowed()
}

/// Absent, null and empty are the same.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let set = |v: &&Value| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty());
    a.filter(set) == b.filter(set)
}

fn grants(user: &UserInfo, missing: &[Rule]) -> String {
    let mut lines: Vec<String> = missing.iter().map(compact).collect();
    lines.sort();
    lines.dedup();
    format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        lines.join("\n")
    )
}

fn compact(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let set = fields.into_iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = set.map(|(name, list)| format!("{name}:{list:?}")).collect();
    format!("{{{}}}", parts.join(", "))
}
