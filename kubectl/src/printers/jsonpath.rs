//! JSONPath templates as kubectl takes them: `{.a.b[0]}`, `[*]`, `..name`, `[0:2]`, `[?(@.x=="y")]`, `['a.b','c']`, `{"text"}` and
//! `{range}…{end}`.

mod parse;

use std::cmp::Ordering;

use serde_json::Value;

/// A template that was read.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
    /// The template as it was given, in braces.
    pub text: String,
}

#[derive(Debug, Clone)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
    /// What is only found to be wrong when it is carried out.
    Failing(String),
}

#[derive(Debug, Clone)]
enum Step {
    Field(String),
    /// From, to, and the step.
    Slice(Option<i64>, Bound, u64),
    All,
    /// The value and all below it.
    Descend,
    Union(Vec<Step>),
    Filter(Filter),
}

/// Where a slice ends.
#[derive(Debug, Clone, Copy)]
enum Bound {
    At(i64),
    /// One item, this.
    After(i64),
    End,
}

#[derive(Debug, Clone)]
struct Filter {
    left: Operand,
    test: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone)]
enum Operand {
    Literal(Value),
    Path(Vec<Step>),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The error of a template that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("error parsing jsonpath {template}, {what}")]
pub struct ParseError {
    template: String,
    what: String,
}

/// The error of an expression that is not a path.
#[derive(Debug, thiserror::Error)]
pub enum RelaxedError {
    #[error(
        "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or '{{.name1.name2}}'"
    )]
    Shape,
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is not a template.
    pub fn parse(template: &str) -> Result<Self, ParseError> {
        Ok(Self { nodes: parse::template(template)?, text: template.to_owned() })
    }

    /// Reads one path, with or without its braces and its first dot.
    ///
    /// # Errors
    /// What is not one path.
    pub fn relaxed(expression: &str) -> Result<Self, RelaxedError> {
        if expression.is_empty() {
            return Ok(Self::parse("")?);
        }
        let inner = match expression.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or(RelaxedError::Shape)?,
            None => expression,
        };
        let path = inner.strip_prefix('.').unwrap_or(inner);
        if path.is_empty() || path.contains(['{', '}']) {
            return Err(RelaxedError::Shape);
        }
        let dot = if path.starts_with('[') { "" } else { "." };
        Ok(Self::parse(&format!("{{{dot}{path}}}"))?)
    }

    /// What the template says of a value; what is missing is empty.
    ///
    /// # Errors
    /// An index that is out of bounds, and other things that only the value shows to be wrong, in words.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        let printed = render(&self.nodes, value, &mut |node| match node {
            Printed::Text(text) => out.push_str(text),
            Printed::Values(values) => {
                let texts: Vec<String> = values.iter().map(|value| text_of(value)).collect();
                out.push_str(&texts.join(" "));
            }
        });
        printed.map(|()| out).map_err(|what| self.complaint(&what, value))
    }

    /// As [`Template::render`], but what is found is printed as lists of JSON.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_json(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        let mut list = |values: Vec<Value>| out.push_str(&super::json::pretty(&Value::Array(values), "    "));
        let printed = render(&self.nodes, value, &mut |node| match node {
            Printed::Text("") => {}
            Printed::Text(text) => list(vec![text.into()]),
            Printed::Values(values) => list(values.into_iter().cloned().collect()),
        });
        printed.map(|()| out).map_err(|what| self.complaint(&what, value))
    }

    /// The values that a single path leads to.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn find<'a>(&self, value: &'a Value) -> Result<Vec<&'a Value>, String> {
        let mut found = Vec::new();
        for node in &self.nodes {
            match node {
                Node::Path(path) => found.extend(walk(path, value)?),
                Node::Failing(what) => return Err(what.clone()),
                Node::Text(_) | Node::Range(..) => {}
            }
        }
        Ok(found)
    }

    fn complaint(&self, what: &str, value: &Value) -> String {
        format!(
            "error executing jsonpath {:?}: Error executing template: {what}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{}\n\tobject given to jsonpath engine was:\n\t\t{}\n\n",
            self.text,
            self.text,
            go_syntax(value)
        )
    }
}

enum Printed<'a> {
    Text(&'a str),
    Values(Vec<&'a Value>),
}

fn render(nodes: &[Node], at: &Value, print: &mut dyn FnMut(Printed<'_>)) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => print(Printed::Text(text)),
            Node::Path(path) => print(Printed::Values(walk(path, at)?)),
            Node::Range(path, body) => {
                for item in walk(path, at)? {
                    render(body, item, print)?;
                }
            }
            Node::Failing(what) => return Err(what.clone()),
        }
    }
    Ok(())
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Result<Vec<&'a Value>, String> {
    let mut found = vec![value];
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            advance(step, value, &mut next)?;
        }
        found = next;
    }
    Ok(found)
}

fn advance<'a>(step: &Step, value: &'a Value, found: &mut Vec<&'a Value>) -> Result<(), String> {
    match step {
        Step::Field(name) => found.extend(value.get(name)),
        Step::Slice(from, to, step) => slice(value, *from, *to, *step, found)?,
        Step::All => found.extend(children(value)),
        Step::Descend => descend(value, found),
        Step::Union(steps) => steps.iter().try_for_each(|step| advance(step, value, found))?,
        Step::Filter(filter) => {
            for item in value.as_array().into_iter().flatten() {
                if holds(filter, item)? {
                    found.push(item);
                }
            }
        }
    }
    Ok(())
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

/// The value and all below it that have something below them.
fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    let children = children(value);
    if !children.is_empty() {
        found.push(value);
    }
    for child in children {
        descend(child, found);
    }
}

fn slice<'a>(
    value: &'a Value,
    from: Option<i64>,
    to: Bound,
    step: u64,
    found: &mut Vec<&'a Value>,
) -> Result<(), String> {
    let items = match value {
        Value::Array(items) => items,
        Value::Null => return Ok(()),
        other => return Err(format!("{} is not array or slice", go_type(other))),
    };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let wrap = |index: i64| if index < 0 { index + length } else { index };
    let start = wrap(from.unwrap_or(0));
    let end = match to {
        Bound::At(end) => wrap(end),
        Bound::After(index) => wrap(index) + 1,
        Bound::End => length,
    };
    if start == end {
        return Ok(());
    }
    let outside = |index: i64| format!("array index out of bounds: index {index}, length {length}");
    if !(0..length).contains(&start) {
        return Err(outside(start));
    }
    if !(0..=length).contains(&end) {
        return Err(outside(end - 1));
    }
    if start > end {
        return Err(format!("starting index {start} is greater than ending index {end}"));
    }
    let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
    found.extend(items[start..end].iter().step_by(usize::try_from(step).unwrap_or(usize::MAX)));
    Ok(())
}

fn holds(filter: &Filter, item: &Value) -> Result<bool, String> {
    let left = resolve(&filter.left, item)?;
    let Some((comparison, right)) = &filter.test else {
        return Ok(!left.is_empty());
    };
    let right = resolve(right, item)?;
    match (left.as_slice(), right.as_slice()) {
        ([left], [right]) => Ok(compare(*comparison, left, right)),
        ([], _) | (_, []) => Ok(false),
        _ => Err("can only compare one element at a time".to_owned()),
    }
}

fn resolve<'a>(operand: &'a Operand, item: &'a Value) -> Result<Vec<&'a Value>, String> {
    match operand {
        Operand::Literal(value) => Ok(vec![value]),
        Operand::Path(path) => walk(path, item),
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparison {
        Comparison::Equal => order.map_or(left == right, Ordering::is_eq),
        Comparison::Unequal => order.map_or(left != right, Ordering::is_ne),
        Comparison::Less => order.is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparison::Greater => order.is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    }
}

/// A value as text: maps and lists as JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => super::json::compact(other),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        _ => "map[string]interface {}",
    }
}

/// A value in Go's own syntax.
fn go_syntax(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => format!("[]interface {{}}{{{}}}", list(items.iter().map(go_syntax).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key:?}:{}", go_syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", list(fields))
        }
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let value = json!({"items": [{"n": "a", "v": 1, "l": {"x.y/z": "q"}}, {"n": "b", "v": 2}], "kind": "List"});
        Template::parse(template).unwrap().render(&value)
    }

    #[test]
    fn paths_reach_fields_items_and_filters() {
        for (template, text) in [
            ("{.kind}", "List"),
            ("kind", "kind"),
            ("{.items[*].n}", "a b"),
            ("{.items[-1].n}", "b"),
            ("{.items[0:1].n}{.items[::2].n}{.items[1:].n}", "aab"),
            ("{.items[0,1].n}", "a b"),
            ("{.items[0]['n','v']}", "a 1"),
            ("{..n}", "a b"),
            ("{.items[?(@.n==\"b\")].v}", "2"),
            ("{.items[?(@.n!='b')].v}", "1"),
            ("{.items[?(@.v>=2)].n}", "b"),
            ("{.items[?(@.l)].n}", "a"),
            ("{.items[0].l['x.y/z']}", "q"),
            ("{.items[0].l.x\\.y/z}", "q"),
            ("{.missing}", ""),
            ("{.items[0].l}", "{\"x.y/z\":\"q\"}"),
            ("{$.kind}{5}", "List5"),
        ] {
            assert_eq!(render(template).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn ranges_repeat_their_body() {
        assert_eq!(render("{range .items[*]}{.n}={.v}{\"\\n\"}{end}!").unwrap(), "a=1\nb=2\n!");
    }

    #[test]
    fn templates_that_cannot_be_read_are_errors() {
        for (template, what) in [
            ("{.a", "unclosed action"),
            ("{.a[0}", "unterminated array"),
            ("{.a[x]}", "invalid array index x"),
            ("{.a)}", ""),
        ] {
            match Template::parse(template) {
                Ok(_) => assert!(what.is_empty(), "{template}"),
                Err(error) => assert_eq!(error.to_string(), format!("error parsing jsonpath {template}, {what}")),
            }
        }
    }

    #[test]
    fn what_the_value_shows_to_be_wrong_is_told_with_the_value() {
        for (template, what) in [
            ("{.items[5]}", "array index out of bounds: index 5, length 2"),
            ("{.kind[0]}", "string is not array or slice"),
            ("{end}", "not in range, nothing to end"),
            ("{kind}", "unrecognized identifier kind"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(what), "{error}");
            assert!(error.contains("map[string]interface {}{\"items\":[]interface {}{"), "{error}");
        }
    }

    #[test]
    fn relaxed_expressions_need_no_braces() {
        for expression in ["kind", ".kind", "{kind}", "{.kind}"] {
            let template = Template::relaxed(expression).unwrap();
            assert_eq!(template.render(&json!({"kind": "x"})).unwrap(), "x");
        }
        assert!(Template::relaxed("{.a}{.b}").is_err());
    }
}
