//! Whether a CEL expression can be compiled: its syntax, the names it uses, and its type where that can be told.
//!
//! Nothing is evaluated here. What depends on values is `Dyn`, which every use accepts, as in Kubernetes.

mod lexer;
mod parser;

use crate::node::Node;

/// What is known of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Null,
    List,
    Map,
    /// Known only when it is evaluated.
    Dyn,
}

/// The names an expression may use.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    names: Vec<String>,
    /// Names whose fields are known, with the fields.
    closed: Vec<(String, Vec<String>)>,
}

impl Scope {
    /// Of admission policies and match conditions, with parameters or without.
    pub fn admission(params: bool) -> Self {
        let scope = Self::of(&["object", "oldObject", "request", "params", "namespaceObject", "authorizer"]);
        if params { scope } else { scope.without("params") }
    }

    /// All names but one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.names.retain(|known| known != name);
        self
    }

    /// Just these names.
    pub fn of(names: &[&str]) -> Self {
        Scope { names: names.iter().map(|n| (*n).to_owned()).collect(), closed: Vec::new() }
    }

    /// With a `variables` that has these fields.
    #[must_use]
    pub fn with_variables(self, fields: &[&str]) -> Self {
        self.with_fields("variables", fields)
    }

    /// With a name that has these fields and no others.
    #[must_use]
    pub fn with_fields(mut self, name: &str, fields: &[&str]) -> Self {
        self.closed.push((name.to_owned(), fields.iter().map(|f| (*f).to_owned()).collect()));
        self
    }

    fn fields(&self, name: &str) -> Option<&[String]> {
        self.closed.iter().find(|(n, _)| n == name).map(|(_, fields)| fields.as_slice())
    }

    fn knows(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name) || self.fields(name).is_some()
    }
}

/// The type of an expression, or why it cannot be compiled.
pub fn type_of(text: &str, scope: &Scope) -> Result<Type, String> {
    parser::check(text, scope)
}

/// Whether an expression is a condition.
pub fn check_predicate(text: &str, scope: &Scope) -> Result<(), String> {
    match type_of(text, scope)? {
        Type::Bool | Type::Dyn => Ok(()),
        _ => Err("must evaluate to bool".to_owned()),
    }
}

/// A condition, which must be there.
pub fn predicate(node: Node<'_>, scope: &Scope) {
    held(node, |text| check_predicate(text, scope));
}

/// Any expression, which must be there.
pub fn expression(node: Node<'_>, scope: &Scope) {
    held(node, |text| type_of(text, scope).map(drop));
}

/// An expression that gives text, which must be there.
pub fn text(node: Node<'_>, scope: &Scope) {
    held(node, |text| match type_of(text, scope)? {
        Type::String | Type::Dyn => Ok(()),
        _ => Err("must evaluate to string".to_owned()),
    });
}

/// An expression that gives text or nothing, which must be there.
pub fn text_or_null(node: Node<'_>, scope: &Scope) {
    held(node, |text| match type_of(text, scope)? {
        Type::String | Type::Null | Type::Dyn => Ok(()),
        _ => Err("must evaluate to one of [string null_type]".to_owned()),
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
    use super::{Scope, check_predicate};

    #[test]
    fn conditions_compile_as_in_kubernetes() {
        let scope = Scope::admission(true).with_variables(&["r"]);
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
