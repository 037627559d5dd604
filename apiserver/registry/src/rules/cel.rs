//! Whether a CEL expression can be compiled: its syntax, the names it uses, and its type where that can be told.
//!
//! Nothing is evaluated here. What depends on values is `dyn`, which every use accepts, as in Kubernetes.

use apiserver_cel::Expression;
use apiserver_cel::check::{DYN, Scope, Ty, check};
use serde_json::Value;

use crate::custom::schema::escaped;
use crate::node::Node;

/// The variables of admission policies and match conditions, with parameters or without.
pub fn admission(params: bool) -> Scope {
    let scope = Scope::of(&["object", "oldObject", "request", "namespaceObject"])
        .with("authorizer", Ty::Named("authorizer"))
        .with("authorizer.requestResource", Ty::Named("resourcecheck"));
    if params { scope.with("params", DYN) } else { scope }
}

/// With a `variables` that has these fields.
pub fn with_variables(scope: Scope, fields: &[&str]) -> Scope {
    scope.with("variables", Ty::Fields(fields.iter().map(|field| ((*field).to_owned(), DYN)).collect()))
}

/// What expressions see of a value of a structural schema.
pub fn type_of_schema(schema: &Value, root: bool) -> Ty {
    let flag = |name: &str| schema[name] == true;
    let below = |schema: &Value| Box::new(type_of_schema(schema, false));
    match schema["type"].as_str() {
        _ if flag("x-kubernetes-int-or-string") => DYN,
        Some("boolean") => Ty::Named("bool"),
        Some("integer") => Ty::Named("int"),
        Some("number") => Ty::Named("double"),
        Some("string") => match schema["format"].as_str() {
            None => Ty::Named("string"),
            Some(_) => DYN,
        },
        Some("array") => Ty::List(below(&schema["items"])),
        Some("object") if flag("x-kubernetes-preserve-unknown-fields") => DYN,
        Some("object") if schema["additionalProperties"].is_object() => Ty::Map(below(&schema["additionalProperties"])),
        Some("object") => {
            let mut fields: Vec<(String, Ty)> = Vec::new();
            if root || flag("x-kubernetes-embedded-resource") {
                fields.extend(["apiVersion", "kind", "metadata"].map(|name| (name.to_owned(), DYN)));
            }
            let properties = schema["properties"].as_object().into_iter().flatten();
            fields.extend(properties.map(|(name, schema)| (escaped(name), type_of_schema(schema, false))));
            Ty::Fields(fields)
        }
        _ => DYN,
    }
}

/// Whether an expression is a condition.
pub fn check_predicate(text: &str, scope: &Scope) -> Result<(), String> {
    of_types(text, scope, &["bool"]).map_err(|other| other.unwrap_or_else(|| "must evaluate to bool".to_owned()))
}

/// Whether an expression has one of the types; no message where it has another.
fn of_types(text: &str, scope: &Scope, types: &[&str]) -> Result<(), Option<String>> {
    let name = check(text, scope).map_err(Some)?.name();
    if name == "dyn" || types.contains(&name) { Ok(()) } else { Err(None) }
}

/// A condition, which must be there.
pub fn predicate(node: Node<'_>, scope: &Scope) {
    held(node, |text| check_predicate(text, scope));
}

/// Any expression, which must be there.
pub fn expression(node: Node<'_>, scope: &Scope) {
    held(node, |text| check(text, scope).map(drop));
}

/// An expression that gives text, which must be there.
pub fn text(node: Node<'_>, scope: &Scope) {
    held(node, |text| {
        of_types(text, scope, &["string"])
            .map_err(|other| other.unwrap_or_else(|| "must evaluate to string".to_owned()))
    });
}

/// An expression that gives text or nothing, which must be there.
pub fn text_or_null(node: Node<'_>, scope: &Scope) {
    let wanted = || "must evaluate to one of [string null_type]".to_owned();
    held(node, |text| of_types(text, scope, &["string", "null"]).map_err(|other| other.unwrap_or_else(wanted)));
}

/// An expression of a mutation, which must be there: objects and patches are where their names say.
pub fn mutation(node: Node<'_>, scope: &Scope) {
    held(node, |text| {
        check(text, scope)?;
        Expression::compile_mutation(text).map(drop).map_err(|error| error.to_string())
    });
}

fn held(node: Node<'_>, rule: impl Fn(&str) -> Result<(), String>) {
    let text = node.str().trim();
    if text.is_empty() {
        node.required("");
    } else if let Err(detail) = rule(text) {
        node.invalid(format!("compilation failed: {detail}"));
    }
}

/// Whether a word can be a name in CEL.
pub fn is_identifier(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&word)
}

const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

#[cfg(test)]
mod tests {
    use super::{admission, check_predicate, with_variables};

    #[test]
    fn conditions_compile_as_in_kubernetes() {
        let scope = with_variables(admission(true), &["r"]);
        for good in [
            "true",
            "object.spec.replicas <= 5 && !has(object.metadata.labels)",
            "variables.r > 1 ? request.name == 'x' : params.y in ['a', \"b\"]",
            "object.spec.containers.all(c, c.image.startsWith('r/') || c.name.matches(r'^a+$'))",
            "authorizer.group('').resource('pods').check('get').allowed()",
            "size(object.metadata.name) + 1 < 3u || [1, 2].exists(i, i == 1)",
            "{'a': 1}['a'] == 1 // a comment",
            "duration('1h') > duration('1m')",
            "object.spec[?'x'].orValue(true)",
        ] {
            assert_eq!(check_predicate(good, &scope), Ok(()), "{good}");
        }
        for bad in
            ["", "-1", "Bad_Value!", "xxx", "variables.q", "object.", "1 + 1", "'a'", "(true", "true ||", "!1", "[1"]
        {
            assert!(check_predicate(bad, &scope).is_err(), "{bad}");
        }
    }
}
