//! The words of a CEL expression.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Name(String),
    Int,
    Uint,
    Double,
    String,
    Bytes,
    /// An operator or a bracket.
    Symbol(&'static str),
}

const SYMBOLS: [&str; 28] = [
    "[?", ".?", "{?", "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]",
    "{", "}", ",", ".", ":", "?", "`",
];

/// The tokens of a text, or where it is none.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
            continue;
        }
        let Some(first) = rest.chars().next() else { return Ok(out) };
        let (token, length) = if let Some((token, length)) = string(rest)? {
            (token, length)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Name(rest[..length].to_owned()), length)
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            number(rest)
        } else {
            let symbol = SYMBOLS.iter().find(|s| rest.starts_with(**s));
            let symbol = symbol.ok_or_else(|| format!("syntax error: token recognition error at: {first:?}"))?;
            (Token::Symbol(symbol), symbol.len())
        };
        out.push(token);
        rest = &rest[length..];
    }
}

fn number(text: &str) -> (Token, usize) {
    let bytes = text.as_bytes();
    if text.starts_with("0x") || text.starts_with("0X") {
        let length = 2 + bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        return suffix(text, length);
    }
    let digits = |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut length = digits(0);
    let mut double = false;
    if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
        double = true;
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        if digits(length + 1 + sign) > 0 {
            length += 1 + sign + digits(length + 1 + sign);
            double = true;
        }
    }
    if double { (Token::Double, length) } else { suffix(text, length) }
}

fn suffix(text: &str, length: usize) -> (Token, usize) {
    if text[length..].starts_with(['u', 'U']) { (Token::Uint, length + 1) } else { (Token::Int, length) }
}

/// A string or bytes, with the prefixes `r` and `b` and one or three quotes.
fn string(text: &str) -> Result<Option<(Token, usize)>, String> {
    let prefix = text.find(|c: char| !matches!(c, 'r' | 'R' | 'b' | 'B')).unwrap_or(text.len());
    let body = &text[prefix..];
    let Some(quote) = body.chars().next().filter(|c| matches!(c, '\'' | '"')) else { return Ok(None) };
    if prefix > 2 {
        return Ok(None);
    }
    let raw = text[..prefix].contains(['r', 'R']);
    let token = if text[..prefix].contains(['b', 'B']) { Token::Bytes } else { Token::String };
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let end = if body.starts_with(&triple) { triple } else { quote.to_string() };
    let mut at = end.len();
    while at < body.len() {
        if body[at..].starts_with(&end) {
            return Ok(Some((token, prefix + at + end.len())));
        }
        let character = body[at..].chars().next().map_or(1, char::len_utf8);
        let escaped = body[at..].starts_with('\\') && !raw;
        at += character;
        if escaped {
            at += body[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Err("syntax error: unterminated string".to_owned())
}
