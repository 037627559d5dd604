//! What a real Kubernetes 1.36 answered, held against the strategies. Needs `CORTEN_REFERENCE`, the folder of the recordings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use apimachinery::codec::{FieldValidation, MediaType, decode_object};
use apimachinery::{ApiError, Schema, schema};
use apiserver_registry::strategy;
use serde_json::{Value, json};

fn recording(name: &str) -> Option<String> {
    let folder = PathBuf::from(std::env::var_os("CORTEN_REFERENCE")?);
    let path = folder.join(name);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// A collection's path, taken apart.
struct Place {
    group: String,
    version: String,
    namespace: Option<String>,
    resource: String,
}

impl Place {
    fn of(path: &str) -> Place {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = if parts[0] == "api" {
            ("", parts[1], &parts[2..])
        } else {
            (parts[1], parts[2], &parts[3..])
        };
        let (namespace, resource) = match rest {
            ["namespaces", namespace, resource] => (Some((*namespace).to_owned()), *resource),
            [resource] => (None, *resource),
            _ => panic!("not a collection: {path}"),
        };
        Place { group: group.into(), version: version.into(), namespace, resource: resource.into() }
    }

    fn ty(&self) -> &'static schema::Type {
        let resource = Schema::builtin().resource(&self.group, &self.version, &self.resource);
        &resource.expect("a resource of the table").ty
    }
}

/// What the generic create endpoint does with a body, but for admission and storage.
fn create(place: &Place, body: &Value) -> Result<Value, ApiError> {
    let bytes = serde_json::to_vec(body).expect("JSON");
    let ty = place.ty();
    let mut obj = decode_object(Schema::builtin(), ty, MediaType::Json, &bytes, FieldValidation::Strict)?.value;
    if obj["metadata"].is_null() {
        obj["metadata"] = json!({});
    }
    obj["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    obj["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    if let Some(namespace) = &place.namespace {
        obj["metadata"]["namespace"] = json!(namespace);
    }
    schema::apply_defaults(ty, &mut obj);
    let strategy = strategy(&place.group, &place.resource);
    strategy.default(&mut obj);
    strategy.prepare_for_create(&mut obj);
    let errors = strategy.validate(&obj);
    if errors.is_empty() {
        schema::fill_zeros(ty, &mut obj);
        return Ok(obj);
    }
    let mut error = ApiError::new(apimachinery::Reason::Invalid, "invalid");
    for e in errors {
        error = error.with_cause(e.kind.reason(), &e.field, e.body());
    }
    Err(error)
}

/// Code, reason and causes, in a form to compare.
type Answer = (u64, String, Vec<(String, String)>);

fn answer(result: &Result<Value, ApiError>) -> Answer {
    match result {
        Ok(_) => (201, String::new(), Vec::new()),
        Err(error) => {
            let causes = error.0.details.iter().flat_map(|d| &d.causes).filter(|_| error.0.code == 422);
            let mut causes: Vec<_> = causes.map(|c| (c.field.clone(), c.reason.clone())).collect();
            causes.sort();
            (error.0.code.into(), error.0.reason.clone(), causes)
        }
    }
}

fn recorded(case: &Value) -> Answer {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let causes = case["causes"].as_array().into_iter().flatten();
    let mut causes: Vec<_> = causes.map(|c| (text(&c[0]), text(&c[1]))).collect();
    causes.sort();
    (case["code"].as_u64().expect("a code"), text(&case["reason"]), causes)
}

#[test]
fn invalid_objects_are_refused_with_the_recorded_causes() {
    let Some(recording) = recording("validation-1.36.jsonl") else { return };
    let (mut passed, mut failures) = (0, Vec::new());
    let mut per_path: BTreeMap<String, usize> = BTreeMap::new();
    for (number, line) in recording.lines().enumerate() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let path = case["path"].as_str().expect("a path");
        let (ours, theirs) = (answer(&create(&Place::of(path), &case["request"])), recorded(&case));
        if ours == theirs {
            passed += 1;
            continue;
        }
        *per_path.entry(path.to_owned()).or_default() += 1;
        failures.push(format!("{number} {path}\n  theirs {theirs:?}\n  ours   {ours:?}\n  {}", case["request"]));
    }
    let summary: Vec<String> = per_path.iter().map(|(p, n)| format!("{n:4} {p}")).collect();
    println!("{passed} passed, {} failed\n{}", failures.len(), summary.join("\n"));
    assert!(failures.is_empty(), "{} of {} cases differ:\n{}", failures.len(), passed + failures.len(), failures.join("\n"));
}
