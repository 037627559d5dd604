//! `matchConditions`: expressions in CEL that must all hold for a webhook to be asked.
//!
//! KEP-3716. They see `object`, `oldObject` and `request`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value as Cel, extensions};
use serde_json::Value;

use crate::object::text;

/// What expressions can name: the standard library, and its extensions of strings, lists and numbers.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [extensions::strings, extensions::lists, extensions::math] {
        env.add_extension(extension).expect("the extensions do not declare the same twice, which the tests see");
    }
    Arc::new(env)
});

/// One condition.
pub(super) struct Condition {
    name: String,
    program: Result<Program, String>,
}

impl Condition {
    pub(super) fn of(condition: &Value) -> Self {
        Condition {
            name: text(condition, "/name").to_owned(),
            program: ENV.compile(text(condition, "/expression")).map_err(|errors| errors.to_string()),
        }
    }

    fn holds(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        let program = self.program.as_ref().map_err(|error| format!("compilation error: {error}"))?;
        match program.execute(context) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(_) => Err(format!("cel evaluation error: validation expression {:?} gives no bool", self.name)),
            Err(error) => Err(format!("expression {:?} resulted in error: {error}", self.name)),
        }
    }
}

/// What conditions come to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Holds,
    DoesNotHold,
    Failed(String),
}

/// Asks the conditions. One that does not hold decides, whatever fails beside it.
pub(super) fn ask(conditions: &[Condition], object: &Value, old: &Value, request: &Value) -> Verdict {
    let mut context = Context::with_env(ENV.clone());
    for (name, value) in [("object", object), ("oldObject", old), ("request", request)] {
        context.add_variable_from_value(name, to_cel(value));
    }
    let mut errors = Vec::new();
    for condition in conditions {
        match condition.holds(&context) {
            Ok(true) => {}
            Ok(false) => return Verdict::DoesNotHold,
            Err(error) => errors.push(error),
        }
    }
    match errors.as_slice() {
        [] => Verdict::Holds,
        [error] => Verdict::Failed(error.clone()),
        many => Verdict::Failed(format!("[{}]", many.join(", "))),
    }
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(bool) => Cel::Bool(*bool),
        Value::Number(number) => match number.as_i64() {
            Some(int) => Cel::Int(int),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| (Key::String(Arc::new(key.clone())), to_cel(value));
            Cel::Map(Map { map: Arc::new(entries.iter().map(entry).collect::<HashMap<_, _>>()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(expressions: &[&str]) -> Verdict {
        let condition = |text: &&str| Condition::of(&json!({"name": "c", "expression": text}));
        let conditions: Vec<_> = expressions.iter().map(condition).collect();
        ask(&conditions, &json!({"metadata": {"name": "a"}}), &Value::Null, &json!({"operation": "CREATE"}))
    }

    #[test]
    fn one_that_does_not_hold_decides_and_failures_are_collected() {
        assert_eq!(verdict(&["object.metadata.name == 'a'", "request.operation != 'DELETE'"]), Verdict::Holds);
        assert_eq!(verdict(&["object.absent.name == 'a'", "oldObject != null"]), Verdict::DoesNotHold);
        let Verdict::Failed(errors) = verdict(&["object.absent.name == 'a'", "1", "true"]) else {
            panic!("no failure")
        };
        assert!(
            errors.starts_with("[expression \"c\" resulted in error: ") && errors.contains("gives no bool"),
            "{errors}"
        );
    }
}
