//! The server's tables as text.

use serde_json::Value;

use super::columns::{TABLE, align};
use crate::fields::Fields;

/// What of a table is shown, and how.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub wide: bool,
    pub no_headers: bool,
    pub with_namespace: bool,
    pub show_labels: bool,
    /// Labels that are columns.
    pub label_columns: Vec<String>,
    /// `pod`: names are printed as `pod/x`.
    pub prefix: Option<String>,
}

/// A column of a table that is shown.
#[derive(Debug, Clone)]
pub struct Column {
    index: usize,
    heading: String,
    is_name: bool,
}

/// The columns that are shown, of a table's definitions.
pub fn columns(definitions: &[Value], shown: &Shown) -> Vec<Column> {
    let visible = |definition: &Value| shown.wide || definition.int("priority") == 0;
    let column = |(index, definition): (usize, &Value)| Column {
        index,
        heading: definition.text("name").to_uppercase(),
        is_name: definition.text("format") == "name" && definition.text("type") == "string",
    };
    definitions.iter().enumerate().filter(|(_, definition)| visible(definition)).map(column).collect()
}

/// Header and rows with tabs between the cells. Without rows there is no header either.
pub fn lines(columns: &[Column], rows: &[Value], shown: &Shown, header: bool) -> String {
    let mut out = String::new();
    if header && !shown.no_headers && !rows.is_empty() {
        out.push_str(&headings(columns, shown).join("\t"));
        out.push('\n');
    }
    for row in rows {
        out.push_str(&line(columns, row, shown));
        out.push('\n');
    }
    out
}

fn headings(columns: &[Column], shown: &Shown) -> Vec<String> {
    let mut cells = Vec::with_capacity(columns.len() + 2);
    if shown.with_namespace {
        cells.push("NAMESPACE".to_owned());
    }
    cells.extend(columns.iter().map(|column| column.heading.clone()));
    let label = |label: &String| label.rsplit('/').next().unwrap_or_default().to_uppercase();
    cells.extend(shown.label_columns.iter().map(label));
    if shown.show_labels {
        cells.push("LABELS".to_owned());
    }
    cells
}

fn line(columns: &[Column], row: &Value, shown: &Shown) -> String {
    let metadata = row.at("object.metadata");
    let mut cells = Vec::with_capacity(columns.len() + 2);
    if shown.with_namespace {
        cells.push(metadata.text("namespace").to_owned());
    }
    let named = columns.iter().position(|column| column.is_name);
    for (position, column) in columns.iter().enumerate() {
        let text = cell(&row["cells"][column.index]);
        cells.push(match &shown.prefix {
            Some(prefix) if named == Some(position) => format!("{prefix}/{text}"),
            _ => text,
        });
    }
    let label = |label: &String| metadata["labels"][label.as_str()].as_str().unwrap_or_default().to_owned();
    cells.extend(shown.label_columns.iter().map(label));
    if shown.show_labels {
        cells.push(labels(&metadata["labels"]));
    }
    cells.join("\t")
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: &Value) -> String {
    match labels.map("") {
        Some(labels) => {
            let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
            labels.iter().map(pair).collect::<Vec<_>>().join(",")
        }
        None => "<none>".to_owned(),
    }
}

/// A cell's first line, without what would steer a terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match text.find(['\n', '\r', '\u{c}']) {
            Some(end) => escape(&text[..end]) + "...",
            None => escape(text),
        },
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(cell).collect();
            format!("[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

/// Text of others, fit for a terminal.
pub fn escape(text: &str) -> String {
    text.replace('\u{1b}', "^[")
}

/// A whole table as text.
pub fn print(table: &Value, shown: &Shown) -> String {
    let columns = columns(table.list("columnDefinitions"), shown);
    align(&lines(&columns, table.list("rows"), shown, true), TABLE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Value {
        let name = json!({"name": "Name", "type": "string", "format": "name"});
        json!({"columnDefinitions": [name, {"name": "Ready"}, {"name": "Node", "priority": 1}], "rows": [
            {"cells": ["web", 1, null], "object": {"metadata": {"namespace": "default", "labels": {"b": "2", "x/a": "1"}}}}]})
    }

    #[test]
    fn columns_of_low_priority_are_for_wide() {
        assert_eq!(print(&table(), &Shown::default()), "NAME   READY\nweb    1\n");
        let wide = Shown { wide: true, ..Shown::default() };
        assert_eq!(print(&table(), &wide), "NAME   READY   NODE\nweb    1       \n");
    }

    #[test]
    fn namespace_prefix_and_labels_are_added() {
        let shown = Shown { with_namespace: true, show_labels: true, prefix: Some("pod".into()), ..Shown::default() };
        let text = "NAMESPACE   NAME      READY   LABELS\ndefault     pod/web   1       b=2,x/a=1\n";
        assert_eq!(print(&table(), &shown), text);
        let shown = Shown { label_columns: vec!["x/a".into(), "c".into()], ..Shown::default() };
        assert_eq!(print(&table(), &shown), "NAME   READY   A     C\nweb    1       1     \n");
    }

    #[test]
    fn cells_have_one_line_and_steer_no_terminal() {
        assert_eq!(cell(&json!("a\nb")), "a...");
        assert_eq!(cell(&json!("\u{1b}[1m")), "^[[1m");
    }
}
