//! Label selectors: `app=web,tier in (a, b),!canary`, and the `LabelSelector` objects of specs.
//!
//! "Labels and Selectors". Errors are worded as Kubernetes words them.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Operator {
    fn name(self) -> &'static str {
        match self {
            Operator::Equals => "=",
            Operator::DoubleEquals => "==",
            Operator::NotEquals => "!=",
            Operator::In => "in",
            Operator::NotIn => "notin",
            Operator::Exists => "exists",
            Operator::DoesNotExist => "!",
            Operator::GreaterThan => "gt",
            Operator::LessThan => "lt",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

impl Requirement {
    /// A condition, checked: the key's and the values' form, and their number.
    ///
    /// # Errors
    /// Keys and values that no label can have, and the wrong number of values.
    pub fn new(key: &str, operator: Operator, values: impl IntoIterator<Item = String>) -> Result<Self, SelectorError> {
        let values: BTreeSet<String> = values.into_iter().collect();
        let fail = |text: String| Err(SelectorError(text));
        if let Some(error) = first(names::qualified_name(key)) {
            return fail(format!("key: Invalid value: {key:?}: {error}"));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return fail(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into(),
                );
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                return fail(format!(
                    "values: Invalid value: {}: exact-match compatibility requires one single value",
                    printed(&values)
                ));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return fail(format!(
                    "values: Invalid value: {}: values set must be empty for exists and does not exist",
                    printed(&values)
                ));
            }
            Operator::GreaterThan | Operator::LessThan
                if values.len() != 1 || values.iter().any(|v| v.parse::<i64>().is_err()) =>
            {
                return fail(format!(
                    "values: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    printed(&values)
                ));
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            if let Some(error) = first(names::label_value(value)) {
                return fail(format!("values[{at}][{key}]: Invalid value: {value:?}: {error}"));
            }
        }
        Ok(Requirement { key: key.to_owned(), operator, values })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// The one value that the label must have, for `=`, `==` and `in` with one value.
    pub fn exact(&self) -> Option<&str> {
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In if self.values.len() == 1 => {
                self.values.first().map(String::as_str)
            }
            _ => None,
        }
    }

    /// Whether a label with that value, or without one, fulfils the condition.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let compare = |wanted: fn(i64, i64) -> bool| {
            let left = value.and_then(|v| v.parse().ok());
            let right = self.values.first().and_then(|v| v.parse().ok());
            left.zip(right).is_some_and(|(left, right)| wanted(left, right))
        };
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotEquals | Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(|left, right| left > right),
            Operator::LessThan => compare(|left, right| left < right),
        }
    }
}

fn first(errors: Vec<String>) -> Option<String> {
    errors.into_iter().next()
}

fn printed(values: &BTreeSet<String>) -> String {
    let values: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    format!("[{}]", values.join(","))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.operator == Operator::DoesNotExist {
            f.write_str("!")?;
        }
        f.write_str(&self.key)?;
        let values = || self.values().collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                write!(f, "{}{}", self.operator.name(), values())
            }
            Operator::In | Operator::NotIn => write!(f, " {} ({})", self.operator.name(), values()),
            Operator::GreaterThan => write!(f, ">{}", values()),
            Operator::LessThan => write!(f, "<{}", values()),
            Operator::Exists | Operator::DoesNotExist => Ok(()),
        }
    }
}

/// Conditions that must all hold. Without any it matches everything; [`Selector::nothing`] matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Matches every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// Matches no object: what an absent `LabelSelector` means.
    pub fn nothing() -> Self {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// Conditions, sorted by key as Kubernetes sorts them.
    pub fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// Equality with every entry of a map, as in a Service's selector. Values that are not strings match nothing.
    pub fn from_map(map: &serde_json::Map<String, Value>) -> Self {
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: value.as_str().map(str::to_owned).into_iter().collect(),
        };
        Selector::of(map.iter().map(requirement).collect())
    }

    /// The text of a `labelSelector` parameter.
    ///
    /// # Errors
    /// What is not in the grammar, and keys and values that no label can have.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser::new(text);
        parser
            .selector()
            .map(Selector::of)
            .map_err(|error| SelectorError(format!("unable to parse requirement: {}", error.0)))
    }

    /// A `LabelSelector` object: absent or null matches nothing, empty matches everything.
    ///
    /// # Errors
    /// Unknown operators, and what [`Requirement::new`] refuses.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else { return Ok(Selector::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::Equals, [value])?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(from_expression(expression)?);
        }
        Ok(Selector::of(requirements))
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether no object can match.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether the labels that `label` looks up fulfil every condition.
    pub fn matches<'v>(&self, label: impl Fn(&str) -> Option<&'v str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether an object's labels match.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = crate::meta::labels(object);
        self.matches_map(labels)
    }

    /// Whether a map of labels matches.
    pub fn matches_map(&self, labels: Option<&serde_json::Map<String, Value>>) -> bool {
        self.matches(|key| labels?.get(key)?.as_str())
    }

    /// The one value that the label must have, if the selector says so.
    pub fn requires_exact_match(&self, key: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.key == key && r.exact().is_some()).and_then(Requirement::exact)
    }
}

fn from_expression(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
    Requirement::new(text("key"), operator, values.filter_map(Value::as_str).map(str::to_owned))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, requirement) in self.requirements.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Selector::parse(text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    Comma,
    Not,
    Operator(Operator),
    End,
}

impl Token {
    /// The token as it stands in the text.
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Open => "(",
            Token::Close => ")",
            Token::Comma => ",",
            Token::Not => "!",
            Token::Operator(Operator::GreaterThan) => ">",
            Token::Operator(Operator::LessThan) => "<",
            Token::Operator(operator) => operator.name(),
            Token::End => "",
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let mut then = |next: char| chars.next_if_eq(&next).is_some();
        tokens.push(match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '>' => Token::Operator(Operator::GreaterThan),
            '<' => Token::Operator(Operator::LessThan),
            '!' if then('=') => Token::Operator(Operator::NotEquals),
            '!' => Token::Not,
            '=' if then('=') => Token::Operator(Operator::DoubleEquals),
            '=' => Token::Operator(Operator::Equals),
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"=!(),><".contains(*c)) {
                    word.push(c);
                }
                Token::Word(word)
            }
        });
    }
    tokens.push(Token::End);
    tokens
}

impl Parser {
    fn new(text: &str) -> Self {
        Parser { tokens: tokens(text), position: 0 }
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.position.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(requirements),
                Token::Word(_) | Token::Not => requirements.push(self.requirement()?),
                other => {
                    return Err(SelectorError(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    )));
                }
            }
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Comma => {
                    if !matches!(self.peek(), Token::Word(_) | Token::Not) {
                        return Err(SelectorError(format!(
                            "found '{}', expected: identifier after ','",
                            self.peek().text()
                        )));
                    }
                }
                other => {
                    return Err(SelectorError(format!("found '{}', expected: ',' or 'end of string'", other.text())));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if matches!(self.peek(), Token::Not) {
            self.next();
            let key = self.key()?;
            return Requirement::new(&key, Operator::DoesNotExist, []);
        }
        let key = self.key()?;
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, []);
        }
        let operator = self.operator()?;
        match operator {
            Operator::In | Operator::NotIn => {
                let values = self.values()?;
                Requirement::new(&key, operator, values)
            }
            _ => {
                let value = self.exact_value()?;
                Requirement::new(&key, operator, [value])
            }
        }
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(SelectorError(format!("found '{}', expected: identifier", other.text()))),
        }
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        match self.next() {
            Token::Operator(operator) => Ok(operator),
            Token::Word(word) if word == "in" => Ok(Operator::In),
            Token::Word(word) if word == "notin" => Ok(Operator::NotIn),
            other => Err(SelectorError(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text()))),
        }
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(_) => self.key(),
            other => Err(SelectorError(format!("found '{}', expected: identifier", other.text()))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if self.next() != Token::Open {
            let found = self.tokens[self.position - 1].text().to_owned();
            return Err(SelectorError(format!("found '{found}' expected: '('")));
        }
        let mut values = Vec::new();
        let mut expects_value = true;
        loop {
            match self.next() {
                Token::Word(word) if expects_value => {
                    values.push(word);
                    expects_value = false;
                }
                Token::Comma => {
                    if expects_value {
                        values.push(String::new());
                    }
                    expects_value = true;
                }
                Token::Close => {
                    if expects_value {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => {
                    return Err(SelectorError(format!("found '{}', expected: ',', or ')'", other.text())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: Value) -> bool {
        Selector::parse(selector).expect(selector).matches_object(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn selectors_match_labels() {
        let labels = json!({"app": "web", "tier": "a", "size": "5", "empty": ""});
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "missing!=x",
            "tier in (a,b)",
            "tier notin (c)",
            "missing notin (c)",
            "app",
            "!missing",
            "size>4",
            "size<6",
            "app=web,tier in (a)",
            "empty=",
            "empty in ()",
            " app = web ",
        ] {
            assert!(matches(yes, labels.clone()), "{yes}");
        }
        for no in
            ["app=db", "app!=web", "missing=x", "tier in (b)", "!app", "missing", "size>5", "app=web,!tier", "app>1"]
        {
            assert!(!matches(no, labels.clone()), "{no}");
        }
    }

    #[test]
    fn selectors_print_sorted() {
        for (text, want) in [
            ("x in (b,a),!y, a = b", "a=b,x in (a,b),!y"),
            ("a==b", "a==b"),
            ("a notin (x)", "a notin (x)"),
            ("a>1,b<2", "a>1,b<2"),
            ("a!=b", "a!=b"),
        ] {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.to_string(), want);
            assert_eq!(Selector::parse(want).expect(want), selector);
        }
    }

    #[test]
    fn what_is_not_a_selector_is_refused() {
        for text in [
            "a=b,", ",a", "a in", "a in (", "a in b", "a in (b", "=a", "a=b c", "a>b", "-a=b", "a=b/c", "!", "a!b",
            "a b",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        let error = Selector::parse("a=b,,c").expect_err("two commas").to_string();
        assert_eq!(error, "unable to parse requirement: found ',', expected: identifier after ','");
    }

    #[test]
    fn label_selector_objects_are_selectors() {
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "Exists"}]});
        let selector = Selector::from_label_selector(Some(&selector)).expect("selector");
        assert_eq!(selector.to_string(), "app=web,t");
        assert_eq!(selector.requires_exact_match("app"), Some("web"));
        assert!(Selector::from_label_selector(Some(&json!({}))).expect("empty").is_empty());
        assert!(!Selector::from_label_selector(None).expect("none").matches(|_| None));
        let bad = json!({"matchExpressions": [{"key": "t", "operator": "Like"}]});
        assert!(Selector::from_label_selector(Some(&bad)).is_err());
    }
}
