//! Go templates: fields, variables, pipelines, `if`, `range`, `with`, and the functions that templates have in kubectl.

mod functions;
mod parse;

use serde_json::Value;

use super::json;

/// A template that was read.
#[derive(Debug)]
pub struct GoTemplate {
    nodes: Vec<Node>,
    text: String,
}

#[derive(Debug, Clone)]
enum Node {
    Text(String),
    Action(Pipe),
    /// Conditions with what they guard, and the rest.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// Commands of which each gets the value of the one before as its last argument.
#[derive(Debug, Clone)]
struct Pipe {
    /// Variables that get the value.
    variables: Vec<String>,
    /// Whether the variables are new.
    declares: bool,
    commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone)]
enum Operand {
    Literal(Value),
    Nil,
    /// A function by its name.
    Function(String),
    /// A variable, or the present value where it has no name, with fields.
    Path(Option<String>, Vec<String>),
    /// A pipeline in parentheses, with fields.
    Nested(Box<Pipe>, Vec<String>),
}

/// Why a template cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("error parsing template {text}, template: output:{what}")]
pub struct ParseError {
    text: String,
    what: String,
}

/// How a list of nodes was left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    AtEnd,
    ByBreak,
    ByContinue,
}

/// What a template is carried out with.
struct State<'a> {
    out: String,
    variables: Vec<(String, Value)>,
    /// Whether keys that are missing are errors.
    strict: bool,
    root: &'a Value,
}

impl GoTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is not a template.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let nodes = parse::template(text).map_err(|what| ParseError { text: text.to_owned(), what })?;
        Ok(Self { nodes, text: text.to_owned() })
    }

    /// What the template says of a value.
    ///
    /// # Errors
    /// What only the value shows to be wrong, in words.
    pub fn render(&self, value: &Value, strict: bool) -> Result<String, String> {
        let mut state =
            State { out: String::new(), variables: vec![("$".to_owned(), value.clone())], strict, root: value };
        match state.all(&self.nodes, value) {
            Ok(_) => Ok(state.out),
            Err(why) => Err(format!("error executing template {:?}: template: output: {why}", self.text)),
        }
    }
}

impl State<'_> {
    fn all(&mut self, nodes: &[Node], dot: &Value) -> Result<Left, String> {
        let known = self.variables.len();
        let mut left = Left::AtEnd;
        for node in nodes {
            left = self.one(node, dot)?;
            if left != Left::AtEnd {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(left)
    }

    fn one(&mut self, node: &Node, dot: &Value) -> Result<Left, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.as_ref().map_or_else(|| "<no value>".to_owned(), print));
                }
            }
            Node::If(guarded, rest) => {
                for (condition, body) in guarded {
                    let known = self.variables.len();
                    if truth(self.pipe(condition, dot)?.as_ref()) {
                        let left = self.all(body, dot)?;
                        self.variables.truncate(known);
                        return Ok(left);
                    }
                }
                return self.all(rest, dot);
            }
            Node::With(pipe, body, rest) => {
                let known = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let left = match value.as_ref().filter(|value| truth(Some(value))) {
                    Some(value) => self.all(body, value)?,
                    None => self.all(rest, dot)?,
                };
                self.variables.truncate(known);
                return Ok(left);
            }
            Node::Range(pipe, body, rest) => return self.range(pipe, body, rest, dot),
            Node::Break => return Ok(Left::ByBreak),
            Node::Continue => return Ok(Left::ByContinue),
        }
        Ok(Left::AtEnd)
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], rest: &[Node], dot: &Value) -> Result<Left, String> {
        let known = self.variables.len();
        let over = self.commands(pipe, dot)?;
        let items: Vec<(Value, Value)> = match over {
            Some(Value::Array(items)) => {
                items.into_iter().enumerate().map(|(index, item)| (index.into(), item)).collect()
            }
            Some(Value::Object(fields)) => fields.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("range can't iterate over {}", print(&other))),
        };
        if items.is_empty() {
            return self.all(rest, dot);
        }
        for (key, item) in items {
            match pipe.variables.as_slice() {
                [] => {}
                [value] => self.variables.push((value.clone(), item.clone())),
                [index, value, ..] => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((value.clone(), item.clone()));
                }
            }
            let left = self.all(body, &item)?;
            self.variables.truncate(known);
            if left == Left::ByBreak {
                break;
            }
        }
        Ok(Left::AtEnd)
    }

    /// The value of a pipeline, which its variables get; `None` for what is missing.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Option<Value>, String> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            let content = value.clone().unwrap_or(Value::Null);
            if pipe.declares {
                self.variables.push((name.clone(), content));
            } else if let Some(known) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                known.1 = content;
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Option<Value>, String> {
        let mut last: Option<Option<Value>> = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.flatten())
    }

    fn command(
        &mut self,
        command: &[Operand],
        dot: &Value,
        last: Option<Option<Value>>,
    ) -> Result<Option<Value>, String> {
        let Some((first, rest)) = command.split_first() else { return Err("missing value for command".to_owned()) };
        let Operand::Function(name) = first else {
            if !rest.is_empty() || last.is_some() {
                return Err("can't give argument to non-function".to_owned());
            }
            return self.operand(first, dot);
        };
        if matches!(name.as_str(), "and" | "or") {
            return self.shortcut(name, rest, dot, last);
        }
        let mut arguments = rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
        arguments.extend(last);
        functions::call(name, &arguments)
    }

    /// `and` and `or` stop at the first argument that decides.
    fn shortcut(
        &mut self,
        name: &str,
        operands: &[Operand],
        dot: &Value,
        last: Option<Option<Value>>,
    ) -> Result<Option<Value>, String> {
        let mut value = None;
        for operand in operands {
            value = self.operand(operand, dot)?;
            if truth(value.as_ref()) == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Option<Value>, String> {
        let (start, fields) = match operand {
            Operand::Literal(value) => return Ok(Some(value.clone())),
            Operand::Nil => return Ok(None),
            Operand::Function(name) => return functions::call(name, &[]),
            Operand::Path(None, fields) => (Some(dot.clone()), fields),
            Operand::Path(Some(name), fields) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                match known {
                    Some((_, value)) => (Some(value.clone()), fields),
                    None => return Err(format!("undefined variable {name:?}")),
                }
            }
            Operand::Nested(pipe, fields) => (self.pipe(pipe, dot)?, fields),
        };
        fields.iter().try_fold(start, |value, field| self.field(value, field))
    }

    fn field(&self, value: Option<Value>, field: &str) -> Result<Option<Value>, String> {
        match value {
            Some(Value::Object(mut fields)) => match fields.remove(field) {
                None if self.strict => Err(format!("map has no entry for key {field:?}")),
                found => Ok(found),
            },
            None | Some(Value::Null) if self.strict => Err(format!("nil data; no entry for key {field:?}")),
            None | Some(Value::Null) => Ok(None),
            Some(other) => {
                let of = if std::ptr::eq(self.root, &other) { "data" } else { functions::type_of(&other) };
                Err(format!("can't evaluate field {field} in type {of}"))
            }
        }
    }
}

/// What counts as true: everything but zero, false, and what is empty or missing.
fn truth(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
    }
}

/// A value as Go prints it.
pub fn print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", print(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => json::compact(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> String {
        let value = json!({"kind": "List", "n": 3, "items": [{"name": "a", "labels": {"x": "1", "y": "2"}}, {"name": "b"}], "t": true, "secret": "aGk="});
        match GoTemplate::parse(template) {
            Ok(parsed) => parsed.render(&value, false).unwrap_or_else(|error| error),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn templates_say_what_gos_say() {
        for (template, text) in [
            ("{{.kind}} {{.n}} {{.t}} {{.none}}", "List 3 true <no value>"),
            ("{{.none.deeper}}", "<no value>"),
            ("{{range .items}}{{.name}};{{end}}", "a;b;"),
            ("{{range.items}}{{.name}}{{\"\\n\"}}{{end}}", "a\nb\n"),
            ("{{range $i, $e := .items}}{{$i}}={{$e.name}} {{end}}", "0=a 1=b "),
            ("{{range $k, $v := (index .items 0).labels}}{{$k}}{{$v}}{{end}}", "x1y2"),
            ("{{range .none}}x{{else}}empty{{end}}", "empty"),
            ("{{if eq .kind \"List\"}}yes{{else}}no{{end}}", "yes"),
            ("{{if .none}}a{{else if gt .n 2.0}}b{{else}}c{{end}}", "b"),
            ("{{if and .t (not .none)}}both{{end}}", "both"),
            ("{{with index .items 1}}{{.name}}{{$.kind}}{{end}}", "bList"),
            ("{{$x := .kind}}{{$x}}{{$x = \"z\"}}{{$x}}", "Listz"),
            ("a {{- .kind -}} b", "aListb"),
            ("{{/* note */}}{{len .items}}{{.kind | printf \"%s-%d\" \"q\"}}", "2q-%!d(string=List)"),
            ("{{printf \"%-5s|%3d|%v\" .kind 7 .t}}", "List |  7|true"),
            ("{{(index .items 0).labels}}", "map[x:1 y:2]"),
            ("{{.secret | base64decode}}", "hi"),
            ("{{range .items}}{{if eq .name \"b\"}}{{break}}{{end}}{{.name}}{{end}}", "a"),
            ("{{print 1 \"a\" true}} {{println .kind}}", "1atrue List\n"),
            ("{{if exists . \"items\"}}y{{end}}{{if exists . \"nope\"}}n{{end}}", "y"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for template in ["{{.a", "{{end}}", "{{if .a}}", "{{nope .a}}", "{{range .kind}}{{end}}", "{{.kind.x}}"] {
            assert!(render(template).starts_with("error "), "{template}: {}", render(template));
        }
    }
}
