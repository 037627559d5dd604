//! Reading of JSONPath templates.

use serde_json::Value;

use super::{Bound, Comparison, Filter, Node, Operand, ParseError, Step};

/// Reads a template: text, and actions in braces.
pub fn template(text: &str) -> Result<Vec<Node>, ParseError> {
    let fail = |what: String| ParseError { template: text.to_owned(), what };
    let mut levels: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        push(&mut levels, Node::Text(rest[..open].to_owned()));
        let close = closing(&rest[open + 1..]).map_err(|what| fail(what.to_owned()))? + open + 1;
        action(rest[open + 1..close].trim(), &mut levels).map_err(fail)?;
        rest = &rest[close + 1..];
    }
    push(&mut levels, Node::Text(rest.to_owned()));
    // A range that is not closed ends with the template, and what it repeats is there once more for what is around it.
    while levels.len() > 1 {
        let body = levels.last().map(|(_, body)| body.clone()).unwrap_or_default();
        end_range(&mut levels);
        body.into_iter().for_each(|node| push(&mut levels, node));
    }
    Ok(levels.pop().map(|(_, nodes)| nodes).unwrap_or_default())
}

fn push(levels: &mut [(Vec<Step>, Vec<Node>)], node: Node) {
    if let Some((_, nodes)) = levels.last_mut() {
        nodes.push(node);
    }
}

fn end_range(levels: &mut Vec<(Vec<Step>, Vec<Node>)>) {
    if let Some((over, body)) = levels.pop() {
        push(levels, Node::Range(over, body));
    }
}

fn action(text: &str, levels: &mut Vec<(Vec<Step>, Vec<Node>)>) -> Result<(), String> {
    if let Some(over) = text.strip_prefix("range").filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric())) {
        levels.push((steps(over.trim())?, Vec::new()));
    } else if text == "end" && levels.len() > 1 {
        end_range(levels);
    } else if text == "end" {
        push(levels, Node::Failing("not in range, nothing to end".to_owned()));
    } else if text.starts_with(['"', '\'']) {
        push(levels, Node::Text(unquote(text)));
    } else if let Ok(number) = text.parse::<f64>() {
        push(levels, Node::Text(number.to_string()));
    } else if text.starts_with(|c: char| c.is_alphanumeric()) {
        push(levels, Node::Failing(format!("unrecognized identifier {text}")));
    } else {
        push(levels, Node::Path(steps(text)?));
    }
    Ok(())
}

/// Where the action's brace closes, outside of quotes.
fn closing(text: &str) -> Result<usize, &'static str> {
    let (mut quote, mut escaped, mut brackets) = (None, false, 0_usize);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => brackets += 1,
            (None, ']') => brackets = brackets.saturating_sub(1),
            (None, '}') if brackets > 0 => return Err("unterminated array"),
            (None, '}') => return Ok(index),
            _ => {}
        }
    }
    Err(if quote.is_some() { "unterminated quoted string" } else { "unclosed action" })
}

/// The text between quotes, with Go's escapes.
fn unquote(text: &str) -> String {
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let (mut out, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some(other)) => out.push(other),
            (c, _) => out.push(c),
        }
    }
    out
}

/// Reads a path: `.a.b[0]`, `..name`, `$.x`, `@.y`.
pub fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut rest = text.trim_start_matches(['$', '@']);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let close = bracket(after).ok_or("unterminated array")?;
            steps.push(subscript(after[..close].trim())?);
            rest = &after[close + 1..];
        } else if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Descend);
            rest = after;
            if !rest.starts_with(['[', '.']) {
                rest = member(rest, &mut steps);
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = member(after, &mut steps);
        } else if rest.starts_with(char::is_whitespace) {
            rest = rest.trim_start();
        } else {
            let c = rest.chars().next().unwrap_or_default();
            return Err(format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c)));
        }
    }
    Ok(steps)
}

/// A field after a dot; gives what follows it.
fn member<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let (name, end) = field(text);
    match name.as_str() {
        "" => {}
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Field(name)),
    }
    &text[end..]
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
            '.' | '[' | ' ' => return (name, index),
            _ => name.push(c),
        }
    }
    (name, text.len())
}

fn bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
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

fn subscript(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(inner) = text.strip_prefix("?(") {
        return filter(inner.strip_suffix(')').ok_or("unterminated filter")?.trim()).map(Step::Filter);
    }
    let parts = split_commas(text);
    if parts.len() > 1 {
        return parts.into_iter().map(|part| subscript(part.trim())).collect::<Result<_, _>>().map(Step::Union);
    }
    if text.starts_with(['"', '\'']) {
        return Ok(Step::Field(unquote(text)));
    }
    slice(text)
}

/// The parts of a union; commas within quotes do not count.
fn split_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ',') => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn slice(text: &str) -> Result<Step, String> {
    let wrong = || format!("invalid array index {text}");
    let parts: Vec<&str> = text.split(':').collect();
    let number = |index: usize| match parts.get(index).map(|part| part.trim()).filter(|part| !part.is_empty()) {
        None => Ok(None),
        Some(part) => part.parse::<i64>().map(Some).map_err(|_| wrong()),
    };
    match parts.len() {
        1 => {
            let index = number(0)?.ok_or_else(wrong)?;
            Ok(Step::Slice(Some(index), Bound::After(index), 1))
        }
        2 | 3 => {
            let step = number(2)?.unwrap_or(1);
            if step <= 0 {
                return Err("step must be > 0".to_owned());
            }
            Ok(Step::Slice(number(0)?, number(1)?.map_or(Bound::End, Bound::At), step.unsigned_abs()))
        }
        _ => Err(wrong()),
    }
}

fn filter(text: &str) -> Result<Filter, String> {
    let Some(at) = text.find(['!', '<', '>', '=']) else {
        return Ok(Filter { left: operand(text)?, test: None });
    };
    let length = text[at..].find(|c| !"!<>=".contains(c)).unwrap_or(text.len() - at);
    let comparison = match &text[at..at + length] {
        "==" => Comparison::Equal,
        "!=" => Comparison::Unequal,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        other => return Err(format!("unrecognized filter operator {other}")),
    };
    Ok(Filter { left: operand(text[..at].trim())?, test: Some((comparison, operand(text[at + length..].trim())?)) })
}

fn operand(text: &str) -> Result<Operand, String> {
    if text.starts_with(['"', '\'']) {
        return Ok(Operand::Literal(Value::String(unquote(text))));
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Operand::Literal(value)),
        _ => steps(text).map(Operand::Path),
    }
}
