//! The validations of a policy, evaluated.

use cel::common::types::{CelNull, CelString};
use serde_json::Value;

use crate::conditions::{Compiled, Evaluation};
use crate::matching::Request;
use crate::means::Means;
use crate::object::{items, text};
use crate::policies::{Body, Invocation};

/// The longest message that an expression can make.
const MESSAGE_MAX: usize = 5 * 1024;

/// What a policy demands, and what it notes.
pub(crate) struct Validations {
    validations: Vec<Validation>,
    annotations: Vec<Compiled>,
}

struct Validation {
    expression: Compiled,
    message: String,
    computed: Option<Compiled>,
    reason: String,
}

impl Body for Validations {
    fn of(spec: &Value) -> Self {
        let annotation = |annotation: &Value| Compiled::new(text(annotation, "/valueExpression"));
        Validations {
            validations: items(spec, "/validations").iter().map(Validation::of).collect(),
            annotations: items(spec, "/auditAnnotations").iter().map(annotation).collect(),
        }
    }
}

/// Why a request does not pass.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure {
    pub message: String,
    /// Empty for `Invalid`.
    pub reason: String,
}

impl Failure {
    fn plain(message: String) -> Self {
        Failure { message, reason: String::new() }
    }
}

/// What was found against a request.
#[derive(Default)]
pub(crate) struct Found {
    pub failures: Vec<Failure>,
    /// Annotations that cannot be made: they deny, whatever the binding says.
    pub annotations: Vec<Failure>,
}

impl Validation {
    fn of(validation: &Value) -> Self {
        let computed = text(validation, "/messageExpression");
        Validation {
            expression: Compiled::new(text(validation, "/expression")),
            message: text(validation, "/message").trim().to_owned(),
            computed: (!computed.trim().is_empty()).then(|| Compiled::new(computed)),
            reason: text(validation, "/reason").to_owned(),
        }
    }

    /// What is said where the expression is false.
    fn failure(&self, evaluation: &mut Evaluation<'_>) -> Failure {
        let computed = self.computed.as_ref().and_then(|it| evaluation.evaluate(it).ok());
        let computed = computed.as_ref().and_then(|value| value.downcast_ref::<CelString<'_>>());
        let usable = |text: &&str| !text.is_empty() && text.len() <= MESSAGE_MAX && !text.contains('\n');
        let message = match computed.map(|text| text.inner().trim()).filter(usable) {
            Some(message) => message.to_owned(),
            None if !self.message.is_empty() => self.message.clone(),
            None => format!("failed expression: {}", self.expression.text()),
        };
        Failure { message, reason: self.reason.clone() }
    }
}

/// Asks a policy.
pub(crate) fn failures(
    invocation: &Invocation<'_, Validations>,
    request: Request<'_>,
    review: &Value,
    means: &Means,
) -> Found {
    let policy = invocation.policy;
    let counted = |error: String| (!policy.ignores_failure).then(|| Failure::plain(error));
    let mut evaluation = match invocation.begin(request, review, means) {
        Ok(Some(evaluation)) => evaluation,
        Ok(None) => return Found::default(),
        Err(error) => return Found { failures: counted(error).into_iter().collect(), ..Found::default() },
    };
    let mut found = Found::default();
    for validation in &policy.body.validations {
        found.failures.extend(match evaluation.holds(&validation.expression) {
            Ok(true) => None,
            Ok(false) => Some(validation.failure(&mut evaluation)),
            Err(error) => counted(error),
        });
    }
    for annotation in &policy.body.annotations {
        found.annotations.extend(match evaluation.evaluate(annotation) {
            Ok(value)
                if value.downcast_ref::<CelString<'_>>().is_some() || value.downcast_ref::<CelNull>().is_some() =>
            {
                None
            }
            Ok(value) => counted(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                annotation.text(),
                value.get_type().name()
            )),
            Err(error) => counted(error),
        });
    }
    found
}
