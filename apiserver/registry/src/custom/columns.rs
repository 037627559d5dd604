//! The printer columns of a custom resource: its name, and what `additionalPrinterColumns` says, or else its age.

use apimachinery::time::Moment;
use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::{Value, json};

use crate::printers::{self, human_duration};

/// A column beyond the name.
struct Column {
    definition: Value,
    kind: String,
    /// None where the path cannot be followed: its cells are empty.
    path: Option<JpQuery>,
}

/// The columns of one version.
pub struct Columns(Vec<Column>);

/// Whether a text is a path that columns can have.
pub fn is_path(path: &str) -> bool {
    query(path).is_some()
}

/// `.metadata.labels.app\.kubernetes\.io/name` as RFC 9535 writes it.
fn query(path: &str) -> Option<JpQuery> {
    let mut out = String::from("$");
    let mut depth = 0_usize;
    let mut chars = path.chars().peekable();
    while let Some(char) = chars.next() {
        depth = match char {
            '[' => depth + 1,
            ']' => depth.saturating_sub(1),
            _ => depth,
        };
        if char != '.' || depth > 0 || chars.peek().is_none_or(|next| matches!(next, '.' | '*' | '[')) {
            out.push(char);
            continue;
        }
        let mut name = String::new();
        while let Some(next) = chars.next_if(|next| !matches!(next, '.' | '[')) {
            name.push(if next == '\\' { chars.next()? } else { next });
        }
        out.push_str(&format!("[{}]", json!(name)));
    }
    parse_json_path(&out.replace(".[", "[")).ok()
}

impl Columns {
    /// The columns that a version's `additionalPrinterColumns` asks for.
    pub fn of(additional: &Value) -> Self {
        let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": printers::CREATED_TEXT}]);
        let given = additional.as_array().filter(|given| !given.is_empty()).or(age.as_array());
        Columns(given.into_iter().flatten().map(Column::of).collect())
    }

    /// The `columnDefinitions` of a Table.
    pub fn definitions(&self) -> Vec<Value> {
        let name = json!({"name": "Name", "type": "string", "format": "name", "description": printers::NAME_TEXT, "priority": 0});
        std::iter::once(name).chain(self.0.iter().map(|column| column.definition.clone())).collect()
    }

    /// The cells of an object, one per column.
    pub fn cells(&self, object: &Value, now: Moment) -> Vec<Value> {
        let name = object["metadata"]["name"].clone();
        std::iter::once(name).chain(self.0.iter().map(|column| column.cell(object, now))).collect()
    }
}

impl Column {
    fn of(column: &Value) -> Self {
        let text = |field: &str| column[field].as_str().unwrap_or_default();
        let path = text("jsonPath");
        let description = match text("description") {
            "" => format!("What the definition of the resource shows of {path}"),
            given => given.to_owned(),
        };
        let definition = json!({"name": column["name"], "type": column["type"], "format": text("format"),
            "description": description, "priority": column["priority"].as_i64().unwrap_or(0)});
        Column { definition, kind: text("type").to_owned(), path: query(path) }
    }

    fn cell(&self, object: &Value, now: Moment) -> Value {
        let found = self.path.as_ref().and_then(|path| js_path_process(path, object).ok());
        let Some(value) = found.and_then(|found| found.into_iter().next()).map(|found| found.val()) else {
            return Value::Null;
        };
        match (self.kind.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => value.clone(),
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(number)) => {
                number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).map_or(Value::Null, Value::from)
            }
            ("date", Value::String(text)) => match Moment::parse(text) {
                Some(then) => human_duration(now.seconds - then.seconds).into(),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_what_the_paths_lead_to_in_the_form_of_their_type() {
        let column = |kind: &str, path: &str| json!({"name": "c", "type": kind, "jsonPath": path});
        let columns = Columns::of(&json!([
            column("integer", ".spec.replicas"),
            column("string", ".status.conditions[?(@.type==\"Ready\")].status"),
            column("string", ".metadata.labels.app\\.kubernetes\\.io/name"),
            column("date", ".metadata.creationTimestamp"),
            column("boolean", ".spec.replicas"),
            column("string", ".spec.list"),
            column("string", ".spec.list[1]"),
            column("string", ".spec.absent"),
        ]));
        let object = json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app.kubernetes.io/name": "web"}},
            "spec": {"replicas": 3, "list": ["a", "b"]},
            "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let now = Moment::parse("2026-01-01T00:05:00Z").expect("a time");
        let expected = json!(["x", 3, "True", "web", "5m", null, "[\"a\",\"b\"]", "b", null]);
        assert_eq!(Value::Array(columns.cells(&object, now)), expected);
        assert_eq!(columns.definitions().len(), 9);
    }

    #[test]
    fn without_columns_there_is_the_age() {
        let columns = Columns::of(&Value::Null);
        let names: Vec<Value> = columns.definitions().into_iter().map(|column| column["name"].clone()).collect();
        assert_eq!(names, ["Name", "Age"]);
    }
}
