//! The server's tables as text.

use serde_json::Value;

use super::columns::{TABLE, align};

/// What of a table is shown, and how.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub wide: bool,
    pub no_headers: bool,
    pub with_namespace: bool,
    pub show_labels: bool,
    /// `pod`: names are printed as `pod/x`.
    pub prefix: Option<String>,
}

/// The indexes and headings of the columns that are shown, of a table's definitions.
pub fn columns(definitions: &[Value], shown: &Shown) -> Vec<(usize, String)> {
    let visible = |definition: &Value| shown.wide || definition["priority"].as_i64().unwrap_or(0) == 0;
    let heading = |definition: &Value| definition["name"].as_str().unwrap_or_default().to_uppercase();
    definitions.iter().enumerate().filter(|(_, d)| visible(d)).map(|(index, d)| (index, heading(d))).collect()
}

/// Header and rows with tabs between the cells.
pub fn lines(columns: &[(usize, String)], rows: &[Value], shown: &Shown, header: bool) -> String {
    let mut out = String::new();
    if header && !shown.no_headers {
        let mut cells: Vec<&str> = columns.iter().map(|(_, heading)| heading.as_str()).collect();
        if shown.with_namespace {
            cells.insert(0, "NAMESPACE");
        }
        if shown.show_labels {
            cells.push("LABELS");
        }
        out.push_str(&cells.join("\t"));
        out.push('\n');
    }
    for row in rows {
        out.push_str(&line(columns, row, shown));
        out.push('\n');
    }
    out
}

fn line(columns: &[(usize, String)], row: &Value, shown: &Shown) -> String {
    let metadata = &row["object"]["metadata"];
    let mut cells = Vec::with_capacity(columns.len() + 2);
    if shown.with_namespace {
        cells.push(metadata["namespace"].as_str().unwrap_or_default().to_owned());
    }
    for (position, (index, _)) in columns.iter().enumerate() {
        let text = cell(&row["cells"][*index]);
        cells.push(match &shown.prefix {
            Some(prefix) if position == 0 => format!("{prefix}/{text}"),
            _ => text,
        });
    }
    if shown.show_labels {
        cells.push(labels(&metadata["labels"], ","));
    }
    cells.join("\t")
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: &Value, separator: &str) -> String {
    let mut pairs: Vec<String> = match labels.as_object() {
        Some(labels) => labels.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect(),
        None => Vec::new(),
    };
    pairs.sort();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(separator) }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".into(),
        Value::String(text) => match text.split_once('\n') {
            Some((first, _)) => format!("{first}..."),
            None => text.clone(),
        },
        other => other.to_string(),
    }
}

/// A whole table as text.
pub fn print(table: &Value, shown: &Shown) -> String {
    let empty = Vec::new();
    let columns = columns(table["columnDefinitions"].as_array().unwrap_or(&empty), shown);
    align(&lines(&columns, table["rows"].as_array().unwrap_or(&empty), shown, true), TABLE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Value {
        json!({"columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "Node", "priority": 1}], "rows": [
            {"cells": ["web", 1, null], "object": {"metadata": {"namespace": "default", "labels": {"b": "2", "a": "1"}}}}]})
    }

    #[test]
    fn columns_of_low_priority_are_for_wide() {
        assert_eq!(print(&table(), &Shown::default()), "NAME   READY\nweb    1\n");
        let wide = Shown { wide: true, ..Shown::default() };
        assert_eq!(print(&table(), &wide), "NAME   READY   NODE\nweb    1       <none>\n");
    }

    #[test]
    fn namespace_prefix_and_labels_are_added() {
        let shown = Shown { with_namespace: true, show_labels: true, prefix: Some("pod".into()), ..Shown::default() };
        let text = "NAMESPACE   NAME      READY   LABELS\ndefault     pod/web   1       a=1,b=2\n";
        assert_eq!(print(&table(), &shown), text);
    }
}
