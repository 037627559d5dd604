//! The functions of Go templates.

use std::cmp::Ordering;

use base64::Engine;
use serde_json::Value;

use super::{print, truth};

/// An argument: `None` for what is missing.
type Argument = Option<Value>;

/// Whether there is a function of that name.
pub fn exists(name: &str) -> bool {
    matches!(
        name,
        "and"
            | "or"
            | "not"
            | "len"
            | "index"
            | "slice"
            | "print"
            | "printf"
            | "println"
            | "html"
            | "js"
            | "urlquery"
            | "eq"
            | "ne"
            | "lt"
            | "le"
            | "gt"
            | "ge"
            | "exists"
            | "base64decode"
    )
}

/// Calls a function.
///
/// # Errors
/// Arguments that do not fit, in words.
pub fn call(name: &str, arguments: &[Argument]) -> Result<Argument, String> {
    let one = || arguments.first().cloned().flatten();
    Ok(Some(match name {
        "not" => (!truth(one().as_ref())).into(),
        "len" => length(one().as_ref())?.into(),
        "index" => return index(arguments),
        "slice" => return slice(arguments),
        "print" => spaced(arguments).into(),
        "println" => (arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "printf" => format(arguments)?.into(),
        "html" => escape_html(&spaced(arguments)).into(),
        "urlquery" => spaced(arguments).bytes().map(query_byte).collect::<String>().into(),
        "eq" => equal_to_any(arguments)?.into(),
        "ne" => (!equal(arguments)?).into(),
        "lt" => order(arguments)?.is_lt().into(),
        "le" => order(arguments)?.is_le().into(),
        "gt" => order(arguments)?.is_gt().into(),
        "ge" => order(arguments)?.is_ge().into(),
        "exists" => matches!(index(arguments), Ok(Some(_))).into(),
        "base64decode" => decode(&spaced(arguments))?.into(),
        other => return Err(format!("function {other:?} not defined")),
    }))
}

fn shown(argument: &Argument) -> String {
    argument.as_ref().map_or_else(|| "<nil>".to_owned(), print)
}

/// What `print` says: blanks stand between what are no texts.
fn spaced(arguments: &[Argument]) -> String {
    let mut out = String::new();
    let is_text = |argument: &Argument| matches!(argument, Some(Value::String(_)));
    for (place, argument) in arguments.iter().enumerate() {
        if place > 0 && !is_text(argument) && !is_text(&arguments[place - 1]) {
            out.push(' ');
        }
        out.push_str(&shown(argument));
    }
    out
}

fn length(value: Option<&Value>) -> Result<usize, String> {
    match value {
        Some(Value::String(text)) => Ok(text.len()),
        Some(Value::Array(items)) => Ok(items.len()),
        Some(Value::Object(fields)) => Ok(fields.len()),
        other => Err(format!("len of type {}", other.map_or("nil", type_of))),
    }
}

fn index(arguments: &[Argument]) -> Result<Argument, String> {
    let Some((of, keys)) = arguments.split_first() else { return Err("index of nothing".to_owned()) };
    keys.iter().try_fold(of.clone(), |value, key| match (value, key) {
        (Some(Value::Object(mut fields)), Some(Value::String(key))) => Ok(fields.remove(key)),
        (Some(Value::Array(mut items)), Some(Value::Number(number))) => {
            let at = number.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
            at.map(|at| Some(items.swap_remove(at)))
                .ok_or_else(|| format!("error calling index: index out of range: {number}"))
        }
        (None | Some(Value::Null), _) => Err("error calling index: index of untyped nil".to_owned()),
        (Some(value), _) => Err(format!("error calling index: can't index item of type {}", type_of(&value))),
    })
}

fn slice(arguments: &[Argument]) -> Result<Argument, String> {
    let bound = |place: usize| arguments.get(place).and_then(Option::as_ref).and_then(Value::as_u64);
    let bound =
        |place: usize, default: usize| bound(place).map_or(default, |at| usize::try_from(at).unwrap_or(usize::MAX));
    match arguments.first().and_then(Option::as_ref) {
        Some(Value::String(text)) => {
            let cut = text.get(bound(1, 0)..bound(2, text.len()));
            cut.map(|cut| Some(cut.into())).ok_or_else(|| "error calling slice: index out of range".to_owned())
        }
        Some(Value::Array(items)) => {
            let cut = items.get(bound(1, 0)..bound(2, items.len()));
            cut.map(|cut| Some(cut.to_vec().into())).ok_or_else(|| "error calling slice: index out of range".to_owned())
        }
        _ => Err("error calling slice: can't slice item".to_owned()),
    }
}

/// The name of a value's type in Go.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn compare(a: &Argument, b: &Argument) -> Result<Ordering, String> {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            Ok(a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)))
        }
        (Some(Value::String(a)), Some(Value::String(b))) => Ok(a.cmp(b)),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => Ok(a.cmp(b)),
        (None | Some(Value::Null), None | Some(Value::Null)) => Ok(Ordering::Equal),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn equal(arguments: &[Argument]) -> Result<bool, String> {
    match arguments {
        [a, b] => equals(a, b),
        _ => Err("missing argument for comparison".to_owned()),
    }
}

fn equals(a: &Argument, b: &Argument) -> Result<bool, String> {
    match (a, b) {
        // What is missing equals nothing else.
        (None | Some(Value::Null), Some(other)) | (Some(other), None | Some(Value::Null)) if !other.is_null() => {
            Ok(false)
        }
        _ => compare(a, b).map(Ordering::is_eq),
    }
}

fn equal_to_any(arguments: &[Argument]) -> Result<bool, String> {
    let Some((first, others)) = arguments.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err("missing argument for comparison".to_owned());
    };
    for other in others {
        if equals(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn order(arguments: &[Argument]) -> Result<Ordering, String> {
    match arguments {
        [a, b] => compare(a, b),
        _ => Err("missing argument for comparison".to_owned()),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

fn query_byte(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    }
}

/// `printf` with the verbs that values of JSON need.
fn format(arguments: &[Argument]) -> Result<String, String> {
    let Some((Some(Value::String(pattern)), values)) = arguments.split_first() else {
        return Err("printf wants a format".to_owned());
    };
    let (mut out, mut chars, mut values) = (String::new(), pattern.chars(), values.iter());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut flags, mut verb) = (String::new(), None);
        for c in chars.by_ref() {
            if c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | ' ' | '#') {
                flags.push(c);
            } else {
                verb = Some(c);
                break;
            }
        }
        match verb {
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                Some(value) => out.push_str(&padded(&one_verb(verb, &flags, value), &flags)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
            None => out.push_str("%!(NOVERB)"),
        }
    }
    Ok(out)
}

fn one_verb(verb: char, flags: &str, value: &Argument) -> String {
    let number = match value {
        Some(Value::Number(number)) => number.as_f64(),
        _ => None,
    };
    match (verb, value, number) {
        ('v' | 's', Some(Value::String(text)), _) => text.clone(),
        ('q', Some(Value::String(text)), _) => format!("{text:?}"),
        ('v', _, _) | ('t', Some(Value::Bool(_)), _) => shown(value),
        ('d', _, Some(number)) => format!("{number:.0}"),
        ('f' | 'g', _, Some(number)) => {
            let places = flags.split_once('.').and_then(|(_, places)| places.parse().ok());
            if verb == 'g' { number.to_string() } else { format!("{number:.*}", places.unwrap_or(6)) }
        }
        ('x', Some(Value::String(text)), _) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        _ => format!("%!{verb}({}={})", value.as_ref().map_or("nil", type_of), shown(value)),
    }
}

fn padded(text: &str, flags: &str) -> String {
    let width = flags.split('.').next().unwrap_or_default().trim_start_matches(['-', '+', ' ', '#']);
    let zero = width.starts_with('0') && !flags.contains('-');
    let width: usize = width.parse().unwrap_or(0);
    match () {
        () if flags.contains('-') => format!("{text:<width$}"),
        () if zero => format!("{text:0>width$}"),
        () => format!("{text:>width$}"),
    }
}
