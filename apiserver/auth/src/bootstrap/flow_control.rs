//! Flow schemas and priority levels.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Object, parse};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Data {
    flow_schemas: Vec<Named>,
    priority_levels: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    spec: Value,
}

/// Levels first: a schema names its level.
pub(super) fn objects() -> impl Iterator<Item = Object> {
    let data: Data = parse(include_str!("../../data/flow-control.yaml"));
    let levels = data.priority_levels.into_iter();
    let levels = levels.map(|level| object("prioritylevelconfigurations", "PriorityLevelConfiguration", level));
    let schemas = data.flow_schemas.into_iter().map(|schema| object("flowschemas", "FlowSchema", schema));
    levels.chain(schemas)
}

fn object(resource: &'static str, kind: &str, named: Named) -> Object {
    let metadata = json!({"annotations": {super::plan::AUTO_UPDATE_SPEC: "true"}});
    Object::new(GROUP, resource, kind, "", &named.name, json!({"metadata": metadata, "spec": named.spec}))
}
