//! From a resource to its strategy: the rows of [`kinds`] joined with the schema table.

use std::collections::HashMap;
use std::sync::LazyLock;

use apimachinery::Schema;

use crate::kinds;
use crate::strategy::{Kind, Row, Strategy};

type Rows = HashMap<String, Vec<(&'static str, Row)>>;

static ROWS: LazyLock<Rows> = LazyLock::new(build);

fn build() -> Rows {
    let mut rows = Rows::new();
    for resource in Schema::builtin().resources() {
        let known = kinds::ALL.iter().find(|k| k.group == resource.group && k.resource == resource.resource);
        let row = Row {
            kind: known.copied().unwrap_or(Kind::PLAIN),
            namespaced: Some(resource.namespaced),
            has_status: resource.has_status(),
        };
        let of_resource = rows.entry(resource.resource.clone()).or_default();
        if !of_resource.iter().any(|(group, _)| *group == resource.group) {
            of_resource.push((resource.group.as_str(), row));
        }
    }
    rows
}

static UNKNOWN: Row = Row { kind: Kind { generation: true, ..Kind::PLAIN }, namespaced: None, has_status: false };

/// The strategy of a built-in resource, by its group and plural name, for all its versions.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    let rows = ROWS.get(resource).map_or(&[][..], Vec::as_slice);
    rows.iter().find(|(g, _)| *g == group).map_or(&UNKNOWN, |(_, row)| row)
}
