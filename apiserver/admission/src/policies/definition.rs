//! Policies and bindings, made ready.

use apimachinery::labels::{Selector, SelectorError};
use apimachinery::meta;
use serde_json::Value;

use crate::conditions::{Compiled, MatchConditions};
use crate::matching::MatchResources;
use crate::object::{items, text};

/// What a policy does when it is about a request.
pub(crate) trait Body: Send + Sync + 'static {
    fn of(spec: &Value) -> Self;
}

/// A policy.
pub(crate) struct Policy<B> {
    pub name: String,
    pub matches: Result<MatchResources, SelectorError>,
    pub conditions: MatchConditions,
    pub variables: Vec<(String, Compiled)>,
    pub param_kind: Option<ParamKind>,
    /// Whether the request passes where the policy fails.
    pub ignores_failure: bool,
    pub body: B,
}

/// The kind of a policy's parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

/// The binding of a policy.
pub(crate) struct Binding {
    pub name: String,
    pub policy: String,
    /// None for all that the policy is about.
    pub matches: Result<Option<MatchResources>, SelectorError>,
    pub params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

/// Which objects of parameters a binding uses.
pub(crate) struct ParamRef {
    /// Empty with a selector.
    pub name: String,
    pub namespace: String,
    pub selector: Result<Selector, SelectorError>,
    pub denies_without: bool,
}

impl<B: Body> Policy<B> {
    pub(crate) fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let variable = |variable: &Value| {
            (text(variable, "/name").to_owned(), Compiled::new(variable["expression"].as_str().unwrap_or_default()))
        };
        Policy {
            name: meta::name(object).to_owned(),
            matches: MatchResources::of(&spec["matchConstraints"]),
            conditions: MatchConditions::of(spec),
            variables: items(spec, "/variables").iter().map(variable).collect(),
            param_kind: spec["paramKind"].is_object().then(|| ParamKind {
                api_version: text(spec, "/paramKind/apiVersion").to_owned(),
                kind: text(spec, "/paramKind/kind").to_owned(),
            }),
            ignores_failure: spec["failurePolicy"] == "Ignore",
            body: B::of(spec),
        }
    }
}

impl Binding {
    pub(crate) fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let resources = spec.get("matchResources").filter(|resources| resources.is_object());
        let actions = items(spec, "/validationActions").iter().filter_map(Value::as_str);
        Binding {
            name: meta::name(object).to_owned(),
            policy: text(spec, "/policyName").to_owned(),
            matches: resources.map(MatchResources::of).transpose(),
            params: spec.get("paramRef").filter(|reference| reference.is_object()).map(ParamRef::of),
            actions: actions.map(str::to_owned).collect(),
        }
    }

    /// Whether failures have this consequence.
    pub(crate) fn has(&self, action: &str) -> bool {
        self.actions.iter().any(|known| known == action)
    }
}

impl ParamRef {
    fn of(reference: &Value) -> Self {
        ParamRef {
            name: text(reference, "/name").to_owned(),
            namespace: text(reference, "/namespace").to_owned(),
            selector: Selector::from_label_selector(reference.get("selector")),
            denies_without: reference["parameterNotFoundAction"] == "Deny",
        }
    }
}
