//! JSONPath templates as kubectl takes them: `{.a.b[0]}`, `[*]`, `[?(@.x=="y")]`, `['a.b']`, `{"text"}` and `{range}…{end}`.

use serde_json::Value;

/// A template that was read.
#[derive(Debug)]
pub struct Template(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter(Vec<Step>, Option<(String, Value)>),
}

/// The error of a template that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("error parsing jsonpath {template}, {what}")]
pub struct ParseError {
    template: String,
    what: &'static str,
}

impl Template {
    /// Reads a template. Without braces the whole of it is one path.
    pub fn parse(template: &str) -> Result<Self, ParseError> {
        let fail = |what| ParseError { template: template.to_owned(), what };
        let wrapped = if template.contains('{') {
            template.to_owned()
        } else {
            let dot = if template.starts_with(['.', '[']) { "" } else { "." };
            format!("{{{dot}{template}}}")
        };
        let mut levels: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
        let mut rest = wrapped.as_str();
        while let Some(open) = rest.find('{') {
            push(&mut levels, Node::Text(rest[..open].to_owned()));
            let close = closing(&rest[open + 1..]).ok_or_else(|| fail("unclosed action"))? + open + 1;
            let action = rest[open + 1..close].trim();
            rest = &rest[close + 1..];
            if let Some(over) = action.strip_prefix("range ") {
                levels.push((steps(over.trim()).map_err(fail)?, Vec::new()));
            } else if action == "end" {
                let (over, body) = levels.pop().filter(|_| !levels.is_empty()).ok_or_else(|| fail("not in range"))?;
                push(&mut levels, Node::Range(over, body));
            } else if action.starts_with('"') || action.starts_with('\'') {
                push(&mut levels, Node::Text(unquote(action)));
            } else {
                push(&mut levels, Node::Path(steps(action).map_err(fail)?));
            }
        }
        push(&mut levels, Node::Text(rest.to_owned()));
        match (levels.pop(), levels.is_empty()) {
            (Some((_, nodes)), true) => Ok(Self(nodes)),
            _ => Err(fail("unclosed range")),
        }
    }

    /// What the template says of a value; what is missing is empty.
    pub fn render(&self, value: &Value) -> String {
        let mut out = String::new();
        render(&self.0, value, &mut out);
        out
    }
}

fn push(levels: &mut [(Vec<Step>, Vec<Node>)], node: Node) {
    if let Some((_, nodes)) = levels.last_mut() {
        nodes.push(node);
    }
}

/// Where the action's brace closes, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(index),
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> String {
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\'", "'")
}

fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    let mut rest = text.trim_start_matches(['$', '@']);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let close = bracket(after).ok_or("unterminated array")?;
            steps.push(subscript(after[..close].trim())?);
            rest = &after[close + 1..];
            continue;
        }
        let after = rest.strip_prefix('.').ok_or("unrecognized character")?;
        if after.starts_with('.') {
            return Err("recursive descent is not supported");
        }
        let (name, end) = field(after);
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
        rest = &after[end..];
    }
    Ok(steps)
}

/// A field's name, in which a backslash takes the meaning of a dot away, and where it ends.
fn field(text: &str) -> (String, usize) {
    let (mut name, mut escaped) = (String::new(), false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (name, index),
            _ => name.push(c),
        }
    }
    (name, text.len())
}

fn bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn subscript(text: &str) -> Result<Step, &'static str> {
    if text == "*" {
        return Ok(Step::All);
    }
    if text.starts_with(['"', '\'']) {
        return Ok(Step::Field(unquote(text)));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        for operator in ["==", "!="] {
            if let Some((path, wanted)) = filter.split_once(operator) {
                return Ok(Step::Filter(steps(path.trim())?, Some((operator.to_owned(), literal(wanted.trim())))));
            }
        }
        return Ok(Step::Filter(steps(filter.trim())?, None));
    }
    text.parse().map(Step::Index).map_err(|_| "invalid array index")
}

fn literal(text: &str) -> Value {
    if text.starts_with(['"', '\'']) {
        return Value::String(unquote(text));
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn render(nodes: &[Node], at: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let found: Vec<String> = walk(path, at).into_iter().map(text_of).collect();
                out.push_str(&found.join(" "));
            }
            Node::Range(path, body) => {
                for item in walk(path, at) {
                    render(body, item, out);
                }
            }
        }
    }
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|value| advance(step, value)).collect();
    }
    found
}

fn advance<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => at_index(value, *index).into_iter().collect(),
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        },
        Step::Filter(path, test) => {
            value.as_array().into_iter().flatten().filter(|item| holds(path, test.as_ref(), item)).collect()
        }
    }
}

fn at_index(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let index = if index < 0 { index + i64::try_from(items.len()).ok()? } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn holds(path: &[Step], test: Option<&(String, Value)>, item: &Value) -> bool {
    let found = walk(path, item);
    match test {
        None => !found.is_empty(),
        Some((operator, wanted)) => found.first().is_some_and(|value| (*value == wanted) == (operator == "==")),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => super::tree::sorted(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> String {
        let value = json!({"items": [{"n": "a", "v": 1, "l": {"x.y/z": "q"}}, {"n": "b", "v": 2}], "kind": "List"});
        Template::parse(template).unwrap().render(&value)
    }

    #[test]
    fn paths_reach_fields_items_and_filters() {
        for (template, text) in [
            ("{.kind}", "List"),
            (".kind", "List"),
            ("kind", "List"),
            ("{.items[*].n}", "a b"),
            ("{.items[-1].n}", "b"),
            ("{.items[?(@.n==\"b\")].v}", "2"),
            ("{.items[?(@.v==1)].n}", "a"),
            ("{.items[0].l['x.y/z']}", "q"),
            ("{.items[0].l.x\\.y/z}", "q"),
            ("{.missing}", ""),
            ("{.items[0].l}", "{\"x.y/z\":\"q\"}"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn ranges_repeat_their_body() {
        assert_eq!(render("{range .items[*]}{.n}={.v}{\"\\n\"}{end}!"), "a=1\nb=2\n!");
    }

    #[test]
    fn templates_that_are_not_closed_are_errors() {
        for template in ["{.a", "{range .a[*]}", "{.a[0}", "{end}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
