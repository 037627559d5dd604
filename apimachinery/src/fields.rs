//! Field selectors: `spec.nodeName=n1,status.phase!=Failed`.
//!
//! "Field Selectors". Which fields a resource can be selected by is the resource's matter, not the selector's.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("invalid selector: '{text}'; can't understand '{part}'")]
    NotUnderstood { text: String, part: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    BadEscape(String),
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub field: String,
    /// Whether the field must have the value, or must not.
    pub equals: bool,
    pub value: String,
}

/// Conditions that must all hold; without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Matches every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    pub fn of(requirements: Vec<Requirement>) -> Self {
        Selector { requirements }
    }

    /// A field that must have a value.
    pub fn one(field: &str, value: &str) -> Self {
        Selector::of(vec![Requirement { field: field.into(), equals: true, value: value.into() }])
    }

    /// The text of a `fieldSelector` parameter.
    ///
    /// # Errors
    /// Parts without an operator, and values with characters that must be escaped and are not.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let parts = split_terms(text).into_iter().filter(|part| !part.is_empty());
        let requirements = parts.map(|part| parse_term(text, part)).collect::<Result<_, _>>()?;
        Ok(Selector { requirements })
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the fields that `field` looks up fulfil every condition; an absent field has the value "".
    pub fn matches<'v>(&self, field: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|r| (field(&r.field).unwrap_or_default() == r.value) == r.equals)
    }

    /// The one value that the field must have, if the selector says so.
    pub fn requires_exact_match(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equals && r.field == field).map(|r| r.value.as_str())
    }
}

/// Cuts at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(text: &str, part: &str) -> Result<Requirement, SelectorError> {
    let found = part.char_indices().find_map(|(at, _)| {
        let rest = &part[at..];
        ["!=", "==", "="].into_iter().find(|operator| rest.starts_with(operator)).map(|operator| (at, operator))
    });
    let (at, operator) =
        found.ok_or_else(|| SelectorError::NotUnderstood { text: text.to_owned(), part: part.to_owned() })?;
    let value = unescape(&part[at + operator.len()..])?;
    Ok(Requirement { field: part[..at].to_owned(), equals: operator != "!=", value })
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    return Err(SelectorError::BadEscape(std::iter::once('\\').chain(other).collect()));
                }
            },
            ',' | '=' => return Err(SelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, requirement) in self.requirements.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let operator = if requirement.equals { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", requirement.field, escape(&requirement.value))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_fields() {
        let field = |name: &str| match name {
            "metadata.name" => Some("x"),
            "spec.nodeName" => Some(""),
            _ => None,
        };
        for (text, want) in [
            ("", true),
            ("metadata.name=x", true),
            ("metadata.name==x,spec.nodeName=", true),
            ("metadata.name!=x", false),
            ("missing!=x", true),
            ("metadata.name=y", false),
        ] {
            assert_eq!(Selector::parse(text).expect(text).matches(field), want, "{text}");
        }
    }

    #[test]
    fn escapes_are_undone_and_made_again() {
        let selector = Selector::parse(r"a=x\,y\=z\\,b!=c").expect("selector");
        assert_eq!(selector.requires_exact_match("a"), Some(r"x,y=z\"));
        assert_eq!(selector.to_string(), r"a=x\,y\=z\\,b!=c");
    }

    #[test]
    fn what_is_not_a_selector_is_refused() {
        for text in ["a", "a=b=c", r"a=b\c", "a=b,c"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
