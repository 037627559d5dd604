//! The page that a description is written on: lines at levels of indentation, cells that line up, and the blocks that
//! all kinds share.

use std::fmt::Display;

use serde_json::Value;

use crate::fields::{self, Fields};
use crate::printers::columns::{DESCRIPTION, align};
use crate::printers::table::escape;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const LONGEST_ANNOTATION: usize = 140;
pub const NONE: &str = "<none>";
pub const UNSET: &str = "<unset>";

/// A description in the making. Tabs are columns that line up with those of the lines around them.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// A line, two blanks in for each level.
    pub fn line(&mut self, level: usize, text: impl Display) {
        self.part(level, text);
        self.0.push('\n');
    }

    /// The beginning of a line, or what goes on with one.
    pub fn part(&mut self, level: usize, text: impl Display) {
        self.0.extend(std::iter::repeat_n("  ", level));
        self.0.push_str(&text.to_string());
    }

    /// `Label:  value`.
    pub fn field(&mut self, level: usize, label: &str, value: impl Display) {
        self.line(level, format_args!("{label}:\t{value}"));
    }

    /// A field of which every line but the first has no label.
    pub fn block(&mut self, title: &str, lines: &[String]) {
        self.block_at("", title, lines);
    }

    /// As [`Page::block`], indented.
    pub fn block_at(&mut self, indent: &str, title: &str, lines: &[String]) {
        self.part(0, format_args!("{indent}{title}:\t"));
        match lines {
            [] => self.line(0, NONE),
            [first, rest @ ..] => {
                self.line(0, first);
                rest.iter().for_each(|line| self.line(0, format_args!("{indent}\t{line}")));
            }
        }
    }

    /// As [`Page::block`], in a nested description, where not only lines but also their parts are indented.
    pub fn nested_block(&mut self, indent: &str, title: &str, lines: &[String]) {
        self.part(0, format_args!("{indent}{title}:\t"));
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                self.part(0, format_args!("{indent}{indent}\t"));
            }
            self.line(0, format_args!("{indent}{line}"));
        }
    }

    /// Name and namespace, as nearly all kinds begin.
    pub fn head(&mut self, object: &Value) {
        self.field(0, "Name", fields::name(object));
        self.field(0, "Namespace", fields::namespace(object));
    }

    /// Labels, and annotations but for the one of `apply`.
    pub fn tags(&mut self, object: &Value) {
        self.labels("Labels", object.at("metadata.labels"));
        self.annotations("Annotations", object.at("metadata.annotations"));
    }

    /// `key=value` on each line.
    pub fn labels(&mut self, title: &str, labels: &Value) {
        self.block(title, &pairs(labels));
    }

    /// `key: value` on each line; long values below their key, and shortened.
    pub fn annotations(&mut self, title: &str, annotations: &Value) {
        let mut lines = Vec::new();
        for (key, value) in annotations.map("").into_iter().flatten().filter(|(key, _)| *key != LAST_APPLIED) {
            let text = value.as_str().unwrap_or_default();
            let text = text.strip_suffix('\n').unwrap_or(text);
            if text.len() + key.len() + 2 > LONGEST_ANNOTATION || text.contains('\n') {
                lines.push(format!("{key}:"));
                lines.extend(text.split('\n').map(|line| format!("  {}", shorten(line))));
            } else {
                lines.push(format!("{key}: {text}"));
            }
        }
        self.block(title, &lines);
    }

    /// The text as it was written.
    pub fn raw(self) -> String {
        self.0
    }

    /// The text with its columns in line.
    pub fn finish(self) -> String {
        align(&escape(&self.0), DESCRIPTION)
    }
}

fn shorten(line: &str) -> String {
    let most = LONGEST_ANNOTATION - 2;
    if line.len() <= most {
        return line.to_owned();
    }
    let end = (0..=most).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &line[..end])
}

/// `key=value` of a map.
pub fn pairs(map: &Value) -> Vec<String> {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", fields::plain(value));
    map.map("").into_iter().flatten().map(pair).collect()
}

/// `a=b,c=d`, or `<none>`.
pub fn joined(map: &Value) -> String {
    let pairs = pairs(map);
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// Texts with a separator, or `<none>`.
pub fn listed(texts: &[&str], separator: &str) -> String {
    if texts.is_empty() { NONE.to_owned() } else { texts.join(separator) }
}

/// A list as Go prints it: `[a b]`.
pub fn go_list(texts: &[&str]) -> String {
    format!("[{}]", texts.join(" "))
}

/// A value as Go prints it.
pub fn go(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Null => "<nil>".to_owned(),
        other => fields::plain(other),
    }
}

/// `True` or `False`.
pub fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A value that may be missing.
pub fn or_unset(value: &Value) -> String {
    if value.is_null() { UNSET.to_owned() } else { fields::plain(value) }
}

/// The kind and name of the object that controls this one.
pub fn controller(object: &Value) -> Option<String> {
    let owners = object.list("metadata.ownerReferences");
    owners.iter().find(|owner| owner.flag("controller")).map(|o| format!("{}/{}", o.text("kind"), o.text("name")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_annotations_line_up() {
        let mut page = Page::default();
        page.tags(&json!({"metadata": {"labels": {"b": "2", "a": "1"}, "annotations": {"x": "y", "m": "1\n2\n", LAST_APPLIED: "{}"}}}));
        let text = "Labels:       a=1\n              b=2\nAnnotations:  m:\n                1\n                2\n              x: y\n";
        assert_eq!(page.finish(), text);
    }

    #[test]
    fn values_are_printed_as_go_prints_them() {
        assert_eq!(go(&json!(["a", 1, null])), "[a 1 <nil>]");
        assert_eq!(go(&json!({"b": "x", "a": true})), "map[a:true b:x]");
        assert_eq!(joined(&json!({})), NONE);
    }
}
