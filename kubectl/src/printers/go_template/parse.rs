//! Reading of Go templates.

use serde_json::Value;

use super::{Node, Operand, Pipe, functions};

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// `.a.b`; empty for the dot alone.
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Pipe,
    Open,
    /// With the fields behind it.
    Close(Vec<String>),
    Declare,
    Assign,
    Comma,
}

/// Text, or an action's words with where it stands.
enum Part {
    Text(String),
    Action(Vec<Token>),
}

/// Reads a template.
pub fn template(text: &str) -> Result<Vec<Node>, String> {
    let mut parts = parts(text)?.into_iter();
    let (nodes, ended) = nodes(&mut parts, false)?;
    match ended {
        End::Text => Ok(nodes),
        End::End => Err("1: unexpected {{end}}".to_owned()),
        End::Else(_) => Err("1: unexpected {{else}}".to_owned()),
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut rest, mut trim_next) = (Vec::new(), text, false);
    let mut line = 1;
    loop {
        let open = rest.find("{{");
        let mut before = &rest[..open.unwrap_or(rest.len())];
        line += before.matches('\n').count();
        if std::mem::take(&mut trim_next) {
            before = before.trim_start();
        }
        let Some(open) = open else {
            parts.push(Part::Text(before.to_owned()));
            return Ok(parts);
        };
        let mut inner = &rest[open + 2..];
        if let Some(after) = inner.strip_prefix("- ") {
            before = before.trim_end();
            inner = after;
        }
        parts.push(Part::Text(before.to_owned()));
        let close = closing(inner).ok_or_else(|| format!("{line}: unclosed action"))?;
        let mut action = &inner[..close];
        rest = &inner[close + 2..];
        if let Some(cut) = action.strip_suffix(" -") {
            action = cut;
            trim_next = true;
        }
        let action = action.trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            parts.push(Part::Action(tokens(action).map_err(|what| format!("{line}: {what}"))?));
        }
    }
}

/// Where an action's braces close, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if text[index..].starts_with("}}") => return Some(index),
            _ => {}
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        let (token, length) = match c {
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => {
                let (fields, length) = fields(&rest[1..]);
                (Token::Close(fields), length + 1)
            }
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' | '`' => quoted(rest)?,
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let (fields, length) = fields(rest);
                (Token::Fields(fields), length.max(1))
            }
            '$' => {
                let name = word(&rest[1..]);
                let (fields, length) = fields(&rest[1 + name.len()..]);
                (Token::Variable(format!("${name}"), fields), 1 + name.len() + length)
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '+' | '.' | '_'));
                let text = &rest[..end.unwrap_or(rest.len())];
                (Token::Literal(number(text)?), text.len())
            }
            c if c.is_alphabetic() || c == '_' => {
                let word = word(rest);
                (Token::Word(word.to_owned()), word.len())
            }
            other => return Err(format!("unexpected {other:?} in command")),
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// `.a.b` at the beginning of a text, and how long it is.
fn fields(text: &str) -> (Vec<String>, usize) {
    let (mut fields, mut at) = (Vec::new(), 0);
    while text[at..].starts_with('.') {
        let name = word(&text[at + 1..]);
        if name.is_empty() {
            break;
        }
        fields.push(name.to_owned());
        at += 1 + name.len();
    }
    (fields, at)
}

fn quoted(text: &str) -> Result<(Token, usize), String> {
    let quote = text.chars().next().unwrap_or_default();
    let (mut out, mut chars) = (String::new(), text.char_indices().skip(1));
    while let Some((index, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Token::Literal(out.into()), index + 1)),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, other)) => out.push(other),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("unterminated quoted string".to_owned())
}

fn number(text: &str) -> Result<Value, String> {
    let wrong = || format!("bad number syntax: {text:?}");
    match text.parse::<i64>() {
        Ok(number) => Ok(number.into()),
        Err(_) => text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number).ok_or_else(wrong),
    }
}

/// What a list of nodes ends with.
#[allow(clippy::enum_variant_names, reason = "the word of the template language is end")]
enum End {
    Text,
    End,
    /// With the words behind it.
    Else(Vec<Token>),
}

fn nodes(parts: &mut std::vec::IntoIter<Part>, looping: bool) -> Result<(Vec<Node>, End), String> {
    let mut found = Vec::new();
    while let Some(part) = parts.next() {
        let tokens = match part {
            Part::Text(text) => {
                found.push(Node::Text(text));
                continue;
            }
            Part::Action(tokens) => tokens,
        };
        let keyword = match tokens.first() {
            Some(Token::Word(word)) => word.clone(),
            Some(_) => String::new(),
            None => return Err("1: missing value for command".to_owned()),
        };
        let rest = || tokens[1..].to_vec();
        found.push(match keyword.as_str() {
            "end" => return Ok((found, End::End)),
            "else" => return Ok((found, End::Else(rest()))),
            "if" => condition(pipe(rest())?, parts, looping)?,
            "with" => {
                let (of, (body, ended)) = (pipe(rest())?, nodes(parts, looping)?);
                Node::With(of, body, otherwise(ended, parts, looping)?)
            }
            "range" => {
                let (of, (body, ended)) = (pipe(rest())?, nodes(parts, true)?);
                Node::Range(of, body, otherwise(ended, parts, looping)?)
            }
            "break" if looping => Node::Break,
            "continue" if looping => Node::Continue,
            _ => Node::Action(pipe(tokens)?),
        });
    }
    Ok((found, End::Text))
}

fn condition(first: Pipe, parts: &mut std::vec::IntoIter<Part>, looping: bool) -> Result<Node, String> {
    let (mut guarded, mut guard) = (Vec::new(), first);
    loop {
        let (body, ended) = nodes(parts, looping)?;
        guarded.push((guard, body));
        match ended {
            End::Else(tokens) if tokens.first() == Some(&Token::Word("if".to_owned())) => {
                guard = pipe(tokens[1..].to_vec())?;
            }
            other => return Ok(Node::If(guarded, otherwise(other, parts, looping)?)),
        }
    }
}

/// What stands behind `else`, up to the end.
fn otherwise(ended: End, parts: &mut std::vec::IntoIter<Part>, looping: bool) -> Result<Vec<Node>, String> {
    match ended {
        End::End => Ok(Vec::new()),
        End::Text => Err("1: unexpected EOF".to_owned()),
        End::Else(_) => match nodes(parts, looping)? {
            (rest, End::End) => Ok(rest),
            _ => Err("1: unexpected EOF".to_owned()),
        },
    }
}

/// Reads `$a, $b := command | command`.
fn pipe(tokens: Vec<Token>) -> Result<Pipe, String> {
    let mut variables = Vec::new();
    let mut declares = false;
    let assigned = tokens.iter().position(|token| matches!(token, Token::Declare | Token::Assign));
    let mut rest = tokens;
    if let Some(at) = assigned {
        declares = rest[at] == Token::Declare;
        for token in &rest[..at] {
            match token {
                Token::Variable(name, fields) if fields.is_empty() => variables.push(name.clone()),
                Token::Comma => {}
                other => return Err(format!("1: unexpected {other:?} in declaration")),
            }
        }
        rest.drain(..=at);
    }
    let (commands, left) = commands(&rest)?;
    if left > 0 {
        return Err("1: unexpected right paren".to_owned());
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("1: missing value for command".to_owned());
    }
    Ok(Pipe { variables, declares, commands })
}

/// Commands up to the end or a closing parenthesis; how many tokens are left behind it.
fn commands(tokens: &[Token]) -> Result<(Vec<Vec<Operand>>, usize), String> {
    let (mut commands, mut at) = (vec![Vec::new()], 0);
    while at < tokens.len() {
        let operand = match &tokens[at] {
            Token::Pipe => {
                commands.push(Vec::new());
                at += 1;
                continue;
            }
            Token::Open => {
                let (inner, left) = self::commands(&tokens[at + 1..])?;
                if left == 0 {
                    return Err("1: unclosed left paren".to_owned());
                }
                // The parenthesis that closes is the first of what is left.
                at = tokens.len() - left;
                let fields = match &tokens[at] {
                    Token::Close(fields) => fields.clone(),
                    _ => Vec::new(),
                };
                Operand::Nested(Box::new(Pipe { variables: Vec::new(), declares: false, commands: inner }), fields)
            }
            Token::Close(_) => return Ok((commands, tokens.len() - at)),
            Token::Fields(fields) => Operand::Path(None, fields.clone()),
            Token::Variable(name, fields) => Operand::Path(Some(name.clone()), fields.clone()),
            Token::Literal(value) => Operand::Literal(value.clone()),
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Literal(true.into()),
                "false" => Operand::Literal(false.into()),
                "nil" => Operand::Nil,
                name if functions::exists(name) => Operand::Function(name.to_owned()),
                name => return Err(format!("1: function {name:?} not defined")),
            },
            other => return Err(format!("1: unexpected {other:?} in command")),
        };
        if let Some(command) = commands.last_mut() {
            command.push(operand);
        }
        at += 1;
    }
    Ok((commands, 0))
}
