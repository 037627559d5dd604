//! Warnings that the server sends with its answers, each told once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use crate::streams::Shared;

/// Where warnings go, and which have been told.
#[derive(Clone)]
pub struct Warnings(Arc<Mutex<State>>);

struct State {
    to: Shared,
    told: HashSet<String>,
}

impl Warnings {
    /// Warnings on a stream.
    pub fn new(to: Shared) -> Self {
        Self(Arc::new(Mutex::new(State { to, told: HashSet::new() })))
    }

    /// Tells those of an answer's headers.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn tell<'a>(&self, headers: impl IntoIterator<Item = &'a HeaderValue>) -> std::io::Result<()> {
        for header in headers {
            if let Some(text) = header.to_str().ok().and_then(text_of) {
                self.say(&text)?;
            }
        }
        Ok(())
    }

    /// Tells one of our own.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn say(&self, text: &str) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.insert(text.to_owned()) {
            writeln!(state.to, "Warning: {text}")?;
        }
        Ok(())
    }

    /// How many different warnings there were.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).told.len()
    }
}

/// The text of `299 - "text"`.
fn text_of(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 ")?.split_once(' ')?.1.strip_prefix('"')?;
    let (mut text, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stands_between_quotes() {
        assert_eq!(text_of("299 - \"a \\\"b\\\" c\"").as_deref(), Some("a \"b\" c"));
        assert_eq!(text_of("199 - \"a\""), None);
        assert_eq!(text_of("299 - \"open"), None);
    }
}
