//! Tables: the columns of every resource, and the cells of an object.
//!
//! What `kubectl get` shows comes from here (Kubernetes API concepts, "Receiving resources as Tables").

mod cluster;
mod format;
mod network;
mod pod;
mod storage;
mod workload;

use apimachinery::time::Moment;
use serde_json::{Value, json};

pub use format::{human_duration, selector as selector_text};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub type_: &'static str,
    /// `name` for the object's name, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// Columns above 0 are shown in wide output only.
    pub priority: i32,
}

/// The printer of one resource.
struct Printer {
    group: &'static str,
    resource: &'static str,
    columns: &'static [Column],
    row: fn(&Value, Moment) -> Vec<Value>,
}

pub(crate) const NAME_TEXT: &str = "Name must be unique within a namespace. It is required when creating resources.";
pub(crate) const CREATED_TEXT: &str =
    "The time at which the server created the object. It is set by the server, in UTC.";
const AGE_TEXT: &str = "How long ago the server created the object.";

const fn column(name: &'static str, type_: &'static str, priority: i32) -> Column {
    Column { name, type_, format: "", description: name, priority }
}

/// A column of texts.
const fn text(name: &'static str) -> Column {
    column(name, "string", 0)
}

/// A column of texts in wide output.
const fn wide(name: &'static str) -> Column {
    column(name, "string", 1)
}

const fn integer(name: &'static str) -> Column {
    column(name, "integer", 0)
}

const fn boolean(name: &'static str) -> Column {
    column(name, "boolean", 0)
}

const NAME: Column = Column { name: "Name", type_: "string", format: "name", description: NAME_TEXT, priority: 0 };
const AGE: Column = Column { name: "Age", type_: "string", format: "", description: AGE_TEXT, priority: 0 };
const CREATED: Column =
    Column { name: "Created At", type_: "date", format: "", description: CREATED_TEXT, priority: 0 };

static PLAIN: Printer = Printer {
    group: "",
    resource: "",
    columns: &[NAME, CREATED],
    row: |obj, _now| vec![format::name(obj), obj["metadata"]["creationTimestamp"].clone()],
};

fn printer(group: &str, resource: &str) -> &'static Printer {
    let all = [cluster::ALL, network::ALL, pod::ALL, storage::ALL, workload::ALL];
    all.into_iter().flatten().find(|p| p.resource == resource && p.group == group).unwrap_or(&PLAIN)
}

/// The columns of a resource; the name and the time of creation for one that is not known.
pub fn columns(group: &str, resource: &str) -> &'static [Column] {
    printer(group, resource).columns
}

/// The cells of an object, one per column.
pub fn row(group: &str, resource: &str, obj: &Value, now: Moment) -> Vec<Value> {
    (printer(group, resource).row)(obj, now)
}

/// The name, then the given cells.
fn cells(obj: &Value, rest: impl IntoIterator<Item = Value>) -> Vec<Value> {
    std::iter::once(format::name(obj)).chain(rest).collect()
}

/// A count that may be absent.
fn count(value: &Value) -> Value {
    json!(value.as_i64().unwrap_or(0))
}
