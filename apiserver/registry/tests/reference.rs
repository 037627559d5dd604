//! What a real Kubernetes 1.36 answered, held against the strategies. Needs `CORTEN_REFERENCE`, the folder of the recordings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use apimachinery::codec::{FieldValidation, MediaType, decode_object};
use apimachinery::{ApiError, Schema, schema};
use apiserver_registry::{printers, strategy};
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
        let (group, version, rest) =
            if parts[0] == "api" { ("", parts[1], &parts[2..]) } else { (parts[1], parts[2], &parts[3..]) };
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
    if place.resource == "pods" && obj["spec"].is_object() {
        // As admission has it.
        obj["spec"]["serviceAccountName"] = json!("default");
    }
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

/// Cases of the recording, by line from 0, that another part of the server answers, and how.
const ANSWERED_ELSEWHERE: [(usize, &str); 4] = [
    (114, "node ports are allocated before validation: equal ports get an equal one, which is then reported"),
    (2508, "the token reviews' endpoint refuses a review without a token as a bad request"),
    (2511, "the token reviews' endpoint refuses a review without a token as a bad request"),
    (2512, "the token reviews' endpoint refuses a review without a token as a bad request"),
];

#[test]
fn invalid_objects_are_refused_with_the_recorded_causes() {
    let Some(recording) = recording("validation-1.36.jsonl") else { return };
    let (mut passed, mut failures) = (0, Vec::new());
    let mut per_path: BTreeMap<String, usize> = BTreeMap::new();
    for (number, line) in recording.lines().enumerate() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let path = case["path"].as_str().expect("a path");
        let (ours, theirs) = (answer(&create(&Place::of(path), &case["request"])), recorded(&case));
        let elsewhere = ANSWERED_ELSEWHERE.iter().any(|(line, _)| *line == number);
        if elsewhere {
            assert_ne!(ours, theirs, "case {number} is answered here: take it off the list");
        }
        if ours == theirs || elsewhere {
            passed += usize::from(!elsewhere);
            continue;
        }
        *per_path.entry(path.to_owned()).or_default() += 1;
        failures.push(format!("{number} {path}\n  theirs {theirs:?}\n  ours   {ours:?}\n  {}", case["request"]));
    }
    let summary: Vec<String> = per_path.iter().map(|(p, n)| format!("{n:4} {p}")).collect();
    println!("{passed} passed, {} failed\n{}", failures.len(), summary.join("\n"));
    assert!(
        failures.is_empty(),
        "{} of {} cases differ:\n{}",
        failures.len(),
        passed + failures.len(),
        failures.join("\n")
    );
}

/// Removes what admission adds and what the server allocates, by name.
fn without_additions(place: &Place, obj: &mut Value) {
    if let Some(metadata) = obj["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "resourceVersion", "managedFields", "finalizers"] {
            metadata.remove(field);
        }
    }
    match place.resource.as_str() {
        "pods" => without_pod_admission(&mut obj["spec"]),
        "services" => {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                obj["spec"].as_object_mut().map(|s| s.remove(field));
            }
            for port in obj["spec"]["ports"].as_array_mut().into_iter().flatten() {
                port.as_object_mut().map(|p| p.remove("nodePort"));
            }
        }
        "nodes" => {
            let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            if let Some(taints) = obj["spec"]["taints"].as_array_mut() {
                taints.retain(|t| *t != not_ready);
            }
        }
        "persistentvolumes" => {
            obj["status"].as_object_mut().map(|s| s.remove("lastPhaseTransitionTime"));
        }
        "certificatesigningrequests"
        | "subjectaccessreviews"
        | "selfsubjectaccessreviews"
        | "localsubjectaccessreviews"
        | "tokenreviews" => {
            obj.as_object_mut().map(|o| o.remove("status"));
        }
        _ => {}
    }
    if place.resource == "jobs" {
        let text = obj.to_string();
        let uid = obj["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"].as_str().unwrap_or("?");
        *obj = serde_json::from_str(&text.replace(uid, "UID")).expect("JSON");
    }
}

/// ServiceAccount, DefaultTolerationSeconds and Priority add to pods.
fn without_pod_admission(spec: &mut Value) {
    if let Some(spec) = spec.as_object_mut() {
        for field in ["serviceAccount", "serviceAccountName", "priority", "preemptionPolicy", "nodeName"] {
            spec.remove(field);
        }
    }
    let mut keep = |list: &str, rule: &dyn Fn(&Value) -> bool| {
        if let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) {
            items.retain(rule);
            if items.is_empty() {
                spec.as_object_mut().map(|s| s.remove(list));
            }
        }
    };
    keep("tolerations", &|t| t["tolerationSeconds"] != 300);
    keep("volumes", &|v| !v["name"].as_str().unwrap_or("").starts_with("kube-api-access-"));
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.retain(|m| m["mountPath"] != "/var/run/secrets/kubernetes.io/serviceaccount");
                if mounts.is_empty() {
                    container.as_object_mut().map(|c| c.remove("volumeMounts"));
                }
            }
        }
    }
}

#[test]
fn objects_get_the_recorded_defaults() {
    let Some(recording) = recording("defaulting-1.36.json") else { return };
    let cases: Vec<Value> = serde_json::from_str(&recording).expect("cases");
    let mut failures = Vec::new();
    for case in &cases {
        let path = case["path"].as_str().expect("a path");
        let place = Place::of(path);
        let mut theirs = case["response"]["object"].clone();
        if theirs.is_null() {
            theirs = case["response"].clone();
        }
        let mut ours = match create(&place, &case["request"]) {
            Ok(obj) => obj,
            Err(error) => {
                failures.push(format!("{path}: refused: {:?}", error.0.details));
                continue;
            }
        };
        without_additions(&place, &mut ours);
        without_additions(&place, &mut theirs);
        if ours != theirs {
            failures.push(format!("{path}\n  theirs {theirs}\n  ours   {ours}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// What the cells of a kind show beyond the object as it was created: a controller's or the node's doing.
fn observed(resource: &str) -> Value {
    match resource {
        "persistentvolumes" => json!({"phase": "Available"}),
        "jobs" => json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
        "apiservices" => {
            json!({"conditions": [{"type": "Available", "status": "False", "reason": "ServiceNotFound"}]})
        }
        "flowschemas" => json!({"conditions": [{"type": "Dangling", "status": "False"}]}),
        _ => Value::Null,
    }
}

#[test]
fn tables_have_the_recorded_columns_and_cells() {
    let Some(recording) = recording("tables-1.36.json") else { return };
    let tables: Vec<Value> = serde_json::from_str(&recording).expect("tables");
    let now = apimachinery::time::Moment::parse("2026-01-01T00:01:00Z").expect("a time");
    let mut failures = Vec::new();
    for table in &tables {
        let path = table["path"].as_str().expect("a path");
        let place = Place::of(path);
        let shape = |c: &printers::Column| {
            let mut column = json!({"name": c.name, "type": c.type_, "priority": c.priority});
            if !c.format.is_empty() {
                column["format"] = json!(c.format);
            }
            column
        };
        let ours: Vec<Value> = printers::columns(&place.group, &place.resource).iter().map(shape).collect();
        if table["columns"] != json!(ours) {
            failures.push(format!("{path}\n  theirs {}\n  ours   {}", table["columns"], json!(ours)));
        }
        // Objects that were refused or there already show another object's cells.
        if table["created"] != 201 {
            continue;
        }
        let mut obj = create(&place, &table["object"]).unwrap_or_else(|e| panic!("{path}: {:?}", e.0.details));
        if !observed(&place.resource).is_null() {
            obj["status"] = observed(&place.resource);
        }
        let ours = comparable(&place, printers::row(&place.group, &place.resource, &obj, now));
        let theirs = comparable(&place, table["cells"].as_array().expect("cells").clone());
        if ours != theirs {
            failures.push(format!("{path}\n  theirs {}\n  ours   {}", json!(theirs), json!(ours)));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// Cells without times, uids and allocated ports.
fn comparable(place: &Place, cells: Vec<Value>) -> Vec<Value> {
    let cells = cells.into_iter().map(|cell| match cell.as_str() {
        Some("60s" | "0s") => json!("<age>"),
        Some(text) if text.starts_with("20") && text.ends_with('Z') => json!("<time>"),
        Some(text) if text.contains("controller-uid=") => json!("<uid>"),
        _ => cell,
    });
    let cells: Vec<Value> = cells.collect();
    match (place.resource.as_str(), cells.len()) {
        ("events", 10) => [&cells[1..7], &cells[8..]].concat(),
        ("services", _) => [&cells[..4], &cells[5..]].concat(),
        _ => cells,
    }
}
