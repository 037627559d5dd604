//! Expressions about a request: the variables that they see, and the match conditions of policies and webhooks.
//!
//! Kubernetes documentation, "Dynamic Admission Control", "Matching requests: matchConditions"; "Validating Admission Policy".

use std::sync::Arc;

use apiserver_auth::authorization::Authorizer as Authorization;
use apiserver_auth::user::{self, UserInfo};
use apiserver_cel::{Authorize, Authorizer, Check, CompileError, Decision, Expression, libraries, to_val};
use cel::Context;
use cel::common::types::{CelBool, CelNull};
use cel::common::value::Val;
use serde_json::Value;

use crate::matching::Request;
use crate::object::items;

/// How much all expressions of one policy may cost: a step for each value that a loop may look at.
const BUDGET: u64 = 10_000_000;
/// How many variables may be evaluated for each other: each is a few calls deeper.
const MAX_DEPTH: u32 = 64;

/// What expressions about a request see.
pub struct Inputs<'v> {
    /// With its objects as they are shown.
    pub request: Request<'v>,
    /// The value of `request`.
    pub review: &'v Value,
    /// The object of parameters; none is `null`, unless there cannot be any.
    pub params: Option<&'v Value>,
    pub authorizer: Arc<dyn Authorization>,
}

/// Answers for the user of a request.
struct ByUser {
    authorizer: Arc<dyn Authorization>,
    user: UserInfo,
}

impl ByUser {
    fn user(&self, check: &Check) -> UserInfo {
        let Some((namespace, name)) = &check.account else { return self.user.clone() };
        let mut groups = user::service_account_groups(namespace);
        groups.push(user::AUTHENTICATED.to_owned());
        UserInfo { name: user::service_account_name(namespace, name), groups, ..UserInfo::default() }
    }
}

impl Authorize for ByUser {
    fn decide(&self, check: &Check) -> Decision {
        let attributes = user::Attributes {
            verb: &check.verb,
            is_resource_request: check.path.is_none(),
            group: &check.group,
            version: "*",
            resource: &check.resource,
            subresource: &check.subresource,
            namespace: &check.namespace,
            name: &check.name,
            path: check.path.as_deref().unwrap_or_default(),
            field_selector: &check.field_selector,
            label_selector: &check.label_selector,
        };
        let decision = self.authorizer.authorize(&self.user(check), &attributes);
        Decision { allowed: decision.allowed(), reason: decision.reason().to_owned(), error: None }
    }
}

fn value<'v>(value: Option<&'v Value>) -> Box<dyn Val + 'v> {
    value.map_or_else(|| Box::new(CelNull) as Box<dyn Val + 'v>, to_val)
}

/// How many values there are in a value.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(map) => 1 + map.values().map(weight).sum::<u64>(),
        _ => 1,
    }
}

/// An expression, or why it cannot be used. What is stored has been checked; what an older server stored may not be.
#[derive(Debug)]
pub struct Compiled {
    text: String,
    expression: Result<Expression, CompileError>,
}

impl Compiled {
    pub fn new(text: &str) -> Self {
        Compiled { text: text.trim().to_owned(), expression: Expression::compile(text) }
    }

    /// One that makes an apply configuration, or JSON patches.
    pub fn mutation(text: &str) -> Self {
        Compiled { text: text.trim().to_owned(), expression: Expression::compile_mutation(text) }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    fn truth(&self, value: &dyn Val) -> Result<bool, String> {
        let bool = value.downcast_ref::<CelBool>().map(|bool| *bool.inner());
        bool.ok_or_else(|| self.error("it gives no bool"))
    }

    fn error(&self, error: impl std::fmt::Display) -> String {
        format!("expression '{}' resulted in error: {error}", self.text)
    }
}

/// Named expressions that others can use: evaluated where they are, and once.
pub type Variables = [(String, Compiled)];

/// The evaluation of expressions about one request.
pub struct Evaluation<'v> {
    context: Context<'v, 'v>,
    variables: &'v Variables,
    /// Those that have been evaluated, with what went wrong.
    evaluated: Vec<(&'v str, Option<String>)>,
    /// How many variables are being evaluated.
    depth: u32,
    size: u64,
    left: u64,
}

impl<'v> Evaluation<'v> {
    pub fn new(inputs: &Inputs<'v>, variables: &'v Variables) -> Self {
        let mut context = Context::with_env(libraries());
        let (request, a) = (inputs.request, inputs.request.attributes);
        for (name, it) in [
            ("object", request.object),
            ("oldObject", request.old),
            ("request", Some(inputs.review)),
            ("namespaceObject", request.namespace),
            ("params", inputs.params),
        ] {
            context.add_variable_as_val(name, value(it));
        }
        let by = ByUser { authorizer: inputs.authorizer.clone(), user: a.user.clone() };
        let authorizer = Authorizer::new(Arc::new(by));
        let about = authorizer.about(Check {
            group: a.resource.group.clone(),
            resource: a.resource.resource.clone(),
            subresource: a.subresource.to_owned(),
            namespace: a.namespace.to_owned(),
            name: a.name.to_owned(),
            ..Check::default()
        });
        context.add_variable_as_val("authorizer", Box::new(authorizer));
        context.add_variable_as_val("authorizer.requestResource", Box::new(about));
        let seen = [request.object, request.old, request.namespace, inputs.params, Some(inputs.review)];
        let size = seen.into_iter().flatten().map(weight).sum();
        Evaluation { context, variables, evaluated: Vec::new(), depth: 0, size, left: BUDGET }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Why there is none, in Kubernetes' words.
    pub fn evaluate(&mut self, compiled: &Compiled) -> Result<Box<dyn Val + 'v>, String> {
        let expression = compiled
            .expression
            .as_ref()
            .map_err(|error| compiled.error(format_args!("compilation error: compilation failed: {error}")))?;
        let cost = expression.cost(self.size);
        if cost > self.left {
            return Err("validation failed due to running out of cost budget, no further validation rules will be run"
                .to_owned());
        }
        self.left -= cost;
        let failures: Vec<String> =
            expression.fields_of("variables").into_iter().filter_map(|name| self.variable(name)).collect();
        match expression.evaluate(&self.context) {
            Ok(value) => Ok(value.into_owned()),
            // A variable that could not be evaluated is not there.
            Err(cel::ExecutionError::UndeclaredReference(name)) if name.as_str() == "variables" => {
                Err(compiled.error(failures.into_iter().next().unwrap_or("no such attribute(s): variables".to_owned())))
            }
            Err(error) => Err(compiled.error(Expression::describe(&error))),
        }
    }

    /// Evaluates a variable, if it has not been. Tells what went wrong.
    fn variable(&mut self, name: &str) -> Option<String> {
        if let Some((_, failure)) = self.evaluated.iter().find(|(known, _)| *known == name) {
            return failure.clone();
        }
        let variables = self.variables;
        let (name, compiled) = variables.iter().find(|(known, _)| known == name)?;
        if self.depth == MAX_DEPTH {
            return Some(format!("composited variable {name:?} fails to evaluate: it builds on too many others"));
        }
        // Names only variables before it, as its validation demands; one that names itself finds nothing.
        self.evaluated.push((name, None));
        self.depth += 1;
        let evaluated = self.evaluate(compiled);
        self.depth -= 1;
        match evaluated {
            Ok(value) => {
                self.context.add_variable_as_val(format!("variables.{name}"), value);
                None
            }
            Err(error) => {
                let failure = Some(format!("composited variable {name:?} fails to evaluate: {error}"));
                if let Some(entry) = self.evaluated.iter_mut().find(|(known, _)| known == name) {
                    entry.1.clone_from(&failure);
                }
                failure
            }
        }
    }

    /// Whether an expression is true.
    ///
    /// # Errors
    /// Those of [`Evaluation::evaluate`].
    pub fn holds(&mut self, compiled: &Compiled) -> Result<bool, String> {
        Ok(self.evaluate(compiled)?.equals(&CelBool::TRUE))
    }
}

/// `matchConditions`.
#[derive(Debug, Default)]
pub struct MatchConditions(Vec<Compiled>);

impl MatchConditions {
    /// Those of a webhook, or of the spec of a policy.
    pub fn of(holder: &Value) -> Self {
        let expression = |condition: &Value| Compiled::new(condition["expression"].as_str().unwrap_or_default());
        MatchConditions(items(holder, "/matchConditions").iter().map(expression).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not decides, whatever others run into.
    ///
    /// # Errors
    /// What could not be evaluated, where nothing decides: the failure policy says what follows.
    pub fn hold(&self, evaluation: &mut Evaluation<'_>) -> Result<bool, String> {
        let mut failures = Vec::new();
        for condition in &self.0 {
            match evaluation.evaluate(condition).and_then(|value| condition.truth(value.as_ref())) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => failures.push(error),
            }
        }
        match failures.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use apiserver_auth::authorization::union::AlwaysDeny;
    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::attributes;

    fn asked(expressions: &[&str]) -> Result<bool, String> {
        let conditions: Vec<_> = expressions.iter().map(|text| json!({"name": "c", "expression": text})).collect();
        let conditions = MatchConditions::of(&json!({"matchConditions": conditions}));
        let (a, object) = (attributes(Operation::Create, "", "pods"), json!({"metadata": {"name": "a"}}));
        let inputs = Inputs {
            request: Request { attributes: &a, object: Some(&object), old: None, namespace: None },
            review: &json!({"operation": "CREATE"}),
            params: None,
            authorizer: Arc::new(AlwaysDeny),
        };
        let mut evaluation = Evaluation::new(&inputs, &[]);
        conditions.hold(&mut evaluation)
    }

    #[test]
    fn one_that_does_not_hold_decides_and_failures_are_collected() {
        assert_eq!(asked(&["object.metadata.name == 'a'", "request.operation != 'DELETE'"]), Ok(true));
        assert_eq!(asked(&["object.absent.name == 'a'", "oldObject != null"]), Ok(false));
        assert_eq!(asked(&["!authorizer.requestResource.check('get').allowed()"]), Ok(true));
        let absent = "expression 'object.absent' resulted in error: no such key: absent";
        assert_eq!(asked(&["object.absent", "true"]), Err(absent.to_owned()));
        let both = format!("[{absent}, expression '1' resulted in error: it gives no bool]");
        assert_eq!(asked(&["object.absent", "1", "true"]), Err(both));
    }
}
