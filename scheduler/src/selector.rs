//! Label selectors and node selectors, compiled for matching against `Labels`.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::labels::{Labels, Str, intern};

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: Str,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Test {
    In(Box<[Str]>),
    NotIn(Box<[Str]>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// An operator or operand that the API would refuse: it matches nothing.
    Never,
}

impl Requirement {
    pub fn new(key: &str, operator: &str, values: Option<&[String]>) -> Self {
        let strings = || values.unwrap_or_default().iter().map(|v| intern(v)).collect::<Box<[Str]>>();
        let number = || match values {
            Some([one]) => one.parse::<i64>().ok(),
            _ => None,
        };
        let test = match operator {
            "In" => Test::In(strings()),
            "NotIn" => Test::NotIn(strings()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => number().map_or(Test::Never, Test::Gt),
            "Lt" => number().map_or(Test::Never, Test::Lt),
            _ => Test::Never,
        };
        Self { key: intern(key), test }
    }

    /// The requirement `key = value`.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: intern(key), test: Test::In([intern(value)].into()) }
    }

    /// The requirement `key` in or not in `values`.
    pub fn membership(key: &str, value: &str, wanted: bool) -> Self {
        let values = [intern(value)].into();
        Self { key: intern(key), test: if wanted { Test::In(values) } else { Test::NotIn(values) } }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key))
    }

    fn matches_value(&self, value: Option<&Str>) -> bool {
        let listed = |values: &[Str]| value.is_some_and(|v| values.iter().any(|w| crate::labels::same(v, w)));
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => listed(values),
            Test::NotIn(values) => !listed(values),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(bound) => number().is_some_and(|n| n > *bound),
            Test::Lt(bound) => number().is_some_and(|n| n < *bound),
            Test::Never => false,
        }
    }
}

/// A label selector: all requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// No selector was given: matches nothing.
    Nothing,
    All(Box<[Requirement]>),
}

impl Selector {
    pub fn new(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::Nothing };
        let equal = selector.match_labels.iter().flatten().map(|(k, v)| Requirement::equals(k, v));
        let expressions = selector
            .match_expressions
            .iter()
            .flatten()
            .map(|e| Requirement::new(&e.key, &e.operator, e.values.as_deref()));
        Self::All(equal.chain(expressions).collect())
    }

    /// This selector with one more requirement. A selector that matches nothing stays so.
    pub fn and(self, more: impl IntoIterator<Item = Requirement>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::All(all) => Self::All(all.into_vec().into_iter().chain(more).collect()),
        }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|r| r.matches(labels)),
        }
    }

    /// What must hold; nothing for a selector that matches nothing.
    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::Nothing => &[],
            Self::All(all) => all,
        }
    }

    /// Whether it selects everything, as `{}` does.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }
}

/// One term of a node selector: all expressions on labels and all on fields must hold; a term without any matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    labels: Box<[Requirement]>,
    /// Conditions on `metadata.name`, the only field there is.
    name: Box<[Requirement]>,
}

impl Term {
    pub fn new(term: &NodeSelectorTerm) -> Self {
        let compile = |list: &Option<Vec<NodeSelectorRequirement>>| {
            let requirements = list.iter().flatten();
            requirements.map(|r| Requirement::new(&r.key, &r.operator, r.values.as_deref())).collect()
        };
        Self { labels: compile(&term.match_expressions), name: compile(&term.match_fields) }
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.name.is_empty()
    }

    pub fn matches(&self, name: &Str, labels: &Labels) -> bool {
        !self.is_empty()
            && self.labels.iter().all(|r| r.matches(labels))
            && self.name.iter().all(|r| name_matches(r, name))
    }

    /// The names that `matchFields` allows, or `None` when it does not limit them.
    pub fn names(&self) -> Option<Vec<Str>> {
        let mut names: Option<Vec<Str>> = None;
        for requirement in &self.name {
            let Test::In(values) = &requirement.test else { continue };
            names = Some(match names {
                None => values.to_vec(),
                Some(earlier) => earlier.into_iter().filter(|n| values.contains(n)).collect(),
            });
        }
        names
    }
}

fn name_matches(requirement: &Requirement, name: &Str) -> bool {
    &*requirement.key == "metadata.name" && requirement.matches_value(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_matches_as_documented() {
        let labels = Labels::from([("zone", "a"), ("cpus", "8")]);
        for (key, operator, values, expected) in [
            ("zone", "In", &["a", "b"][..], true),
            ("zone", "In", &["b"], false),
            ("zone", "NotIn", &["b"], true),
            ("zone", "NotIn", &["a"], false),
            ("none", "NotIn", &["a"], true),
            ("zone", "Exists", &[], true),
            ("none", "Exists", &[], false),
            ("zone", "DoesNotExist", &[], false),
            ("none", "DoesNotExist", &[], true),
            ("cpus", "Gt", &["4"], true),
            ("cpus", "Gt", &["8"], false),
            ("cpus", "Lt", &["9"], true),
            ("zone", "Gt", &["1"], false),
            ("none", "Lt", &["1"], false),
            ("cpus", "Gt", &["x"], false),
            ("zone", "Like", &["a"], false),
        ] {
            let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
            let requirement = Requirement::new(key, operator, Some(&values));
            assert_eq!(requirement.matches(&labels), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn a_missing_selector_matches_nothing_and_an_empty_one_everything() {
        assert!(!Selector::new(None).matches(&Labels::default()));
        assert!(Selector::new(Some(&LabelSelector::default())).matches(&Labels::default()));
        assert!(Selector::new(Some(&LabelSelector::default())).is_everything());
    }

    #[test]
    fn an_empty_term_matches_no_node() {
        let term = Term::new(&NodeSelectorTerm::default());
        assert!(!term.matches(&intern("n"), &Labels::default()));
    }

    #[test]
    fn fields_limit_the_names_of_nodes() {
        let field = NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec!["n1".into()]),
        };
        let term = Term::new(&NodeSelectorTerm { match_fields: Some(vec![field]), ..Default::default() });
        assert_eq!(term.names(), Some(vec![intern("n1")]));
        assert!(term.matches(&intern("n1"), &Labels::default()));
        assert!(!term.matches(&intern("n2"), &Labels::default()));
    }
}
