//! Roles and what binds them.

use serde_json::Value;

use super::Subject;
use super::page::{Page, go_list};
use crate::fields::{self, Fields};

/// Writes a role or a cluster role.
pub fn role(subject: &Subject<'_>) -> Page {
    let (role, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(role));
    page.tags(role);
    page.line(0, "PolicyRule:");
    page.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    page.line(1, "---------\t-----------------\t--------------\t-----");
    for rule in compact(role.list("rules")) {
        let (urls, names, verbs) = (go_list(&rule.urls), go_list(&rule.names), go_list(&rule.verbs));
        page.line(1, format_args!("{}\t{urls}\t{names}\t{verbs}", rule.resource()));
    }
    page
}

/// Verbs on one resource of one group, or on one URL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule<'a> {
    verbs: Vec<&'a str>,
    groups: Vec<&'a str>,
    resources: Vec<&'a str>,
    names: Vec<&'a str>,
    urls: Vec<&'a str>,
}

impl Rule<'_> {
    /// `pods`, `deployments.apps/scale`.
    fn resource(&self) -> String {
        let Some(resource) = self.resources.first() else { return String::new() };
        let (name, below) = resource.split_once('/').map_or((*resource, None), |(name, below)| (name, Some(below)));
        let group = self.groups.first().filter(|group| !group.is_empty()).map(|group| format!(".{group}"));
        let below = below.map(|below| format!("/{below}"));
        format!("{name}{}{}", group.unwrap_or_default(), below.unwrap_or_default())
    }

    fn is_about_the_same(&self, other: &Self) -> bool {
        self.groups == other.groups
            && self.resources == other.resources
            && self.names == other.names
            && self.urls == other.urls
    }

    /// What rules are ordered by.
    fn key(&self) -> String {
        [&self.verbs, &self.groups, &self.resources, &self.names, &self.urls].map(|texts| go_list(texts)).join(",")
    }
}

/// Rules cut to one verb each, and those about the same put together again.
fn compact(rules: &[Value]) -> Vec<Rule<'_>> {
    let mut compact: Vec<Rule<'_>> = Vec::new();
    for part in rules.iter().flat_map(breakdown) {
        match compact.iter_mut().find(|rule| rule.is_about_the_same(&part)) {
            Some(rule) => {
                rule.verbs.extend(part.verbs.into_iter().filter(|verb| !rule.verbs.contains(verb)).collect::<Vec<_>>())
            }
            None => compact.push(part),
        }
    }
    compact.sort_by_key(Rule::key);
    compact
}

fn breakdown(rule: &Value) -> Vec<Rule<'_>> {
    let verbs = rule.texts("verbs");
    let empty = || Rule { verbs: verbs.clone(), groups: vec![], resources: vec![], names: vec![], urls: vec![] };
    let mut parts = Vec::new();
    for group in rule.texts("apiGroups") {
        for resource in rule.texts("resources") {
            let base = Rule { groups: vec![group], resources: vec![resource], ..empty() };
            match rule.texts("resourceNames") {
                names if names.is_empty() => parts.push(base),
                names => parts.extend(names.into_iter().map(|name| Rule { names: vec![name], ..base.clone() })),
            }
        }
    }
    parts.extend(rule.texts("nonResourceURLs").into_iter().map(|url| Rule { urls: vec![url], ..empty() }));
    parts
}

/// Writes a role binding or a cluster role binding.
pub fn binding(subject: &Subject<'_>) -> Page {
    let (binding, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(binding));
    page.tags(binding);
    page.line(0, "Role:");
    page.field(1, "Kind", binding.text("roleRef.kind"));
    page.field(1, "Name", binding.text("roleRef.name"));
    page.line(0, "Subjects:");
    page.line(1, "Kind\tName\tNamespace");
    page.line(1, "----\t----\t---------");
    for subject in binding.list("subjects") {
        page.line(1, format_args!("{}\t{}\t{}", subject.text("kind"), subject.text("name"), subject.text("namespace")));
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_about_the_same_become_one() {
        let rules = [
            json!({"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]}),
            json!({"apiGroups": ["", "apps"], "resources": ["deployments/scale"], "verbs": ["update"]}),
            json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}),
        ];
        let compact = compact(&rules);
        let texts: Vec<_> = compact.iter().map(|rule| (rule.resource(), rule.verbs.clone())).collect();
        assert_eq!(
            texts,
            [
                ("deployments.apps/scale".to_owned(), vec!["get", "update"]),
                (String::new(), vec!["get"]),
                ("deployments/scale".to_owned(), vec!["update"]),
            ]
        );
    }
}
