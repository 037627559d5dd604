//! The codecs against Kubernetes' own test data. Needs `CORTEN_REFERENCE`, the folder of the reference data; without
//! it nothing is tested, and that is said.

mod patches;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use apimachinery::codec::{FieldValidation, MediaType, decode_object, json, protobuf, yaml};
use apimachinery::schema::{Schema, Type};
use serde_json::Value;

/// One case: its name, and what is wrong with it.
type Outcome = (String, Result<(), String>);

fn main() -> ExitCode {
    if listed() {
        return ExitCode::SUCCESS;
    }
    let Some(folder) = std::env::var_os("CORTEN_REFERENCE").map(PathBuf::from) else {
        println!("reference: 0 cases: CORTEN_REFERENCE is not set");
        return ExitCode::SUCCESS;
    };
    let schema = schema_of_the_fixtures();
    let mut outcomes = fixtures(&schema, &folder.join("fixtures"));
    outcomes.extend(patches::sequences(&folder));
    let failures: Vec<&Outcome> = outcomes.iter().filter(|(_, result)| result.is_err()).collect();
    for (name, result) in &failures {
        println!("FAILED {name}: {}", result.as_ref().err().map_or("", String::as_str));
    }
    println!("reference: {} cases, {} failed", outcomes.len(), failures.len());
    if failures.is_empty() && !outcomes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The fixtures are of 1.35, where pods had one alpha field that 1.36 no longer has. All else is the built-in table.
fn schema_of_the_fixtures() -> Schema {
    let mut table: Value = serde_json::from_str(proto::KUBERNETES_TABLE).expect("the table is JSON");
    let field = |name: &str, ty: &str, tag: u32| serde_json::json!({"name": name, "type": ty, "tag": tag});
    table["types"]["core.v1.WorkloadReference"] = serde_json::json!({
        "proto": "k8s.io.api.core.v1.WorkloadReference",
        "fields": [field("name", "string", 1), field("podGroup", "string", 2), field("podGroupReplicaKey", "string", 3)],
    });
    let fields = table["types"]["core.v1.PodSpec"]["fields"].as_array_mut().expect("pods have fields");
    fields.push(field("workloadRef", "core.v1.WorkloadReference", 42));
    Schema::from_table(&table.to_string()).expect("the table loads")
}

fn fixtures(schema: &Schema, folder: &Path) -> Vec<Outcome> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![(folder.display().to_string(), Err(error.to_string()))],
    };
    let mut stems: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.with_extension(""))
        .collect();
    stems.sort();
    let name = |stem: &Path| stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
    stems.into_iter().map(|stem| (name(&stem), fixture(schema, &stem))).collect()
}

fn read(stem: &Path, extension: &str) -> Result<Vec<u8>, String> {
    let path = PathBuf::from(format!("{}.{extension}", stem.display()));
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// JSON, YAML and protobuf of one object convert into one another without a difference.
fn fixture(schema: &Schema, stem: &Path) -> Result<(), String> {
    let (json_text, yaml_text, protobuf_bytes) = (read(stem, "json")?, read(stem, "yaml")?, read(stem, "pb")?);
    let value = json::decode(&json_text).map_err(|error| format!("JSON: {error}"))?;
    let from_yaml = yaml::decode(&yaml_text).map_err(|error| format!("YAML: {error}"))?;
    same("YAML against JSON", &from_yaml, &value)?;
    if yaml::encode(&value).into_bytes() != yaml_text {
        return Err("the YAML written differs from the fixture's".into());
    }
    let envelope = protobuf::open(&protobuf_bytes).map_err(|error| format!("protobuf: {error}"))?;
    let ty = match schema.type_for_kind(envelope.api_version, envelope.kind) {
        Some(ty) => ty,
        // The one message that never names its kind.
        None if envelope.kind.is_empty() => schema.type_named("meta.v1.WatchEvent").ok_or("no watch events")?,
        None => return Err(format!("no kind {} in {}", envelope.kind, envelope.api_version)),
    };
    let from_protobuf = protobuf::decode_message(ty, envelope.raw).map_err(|error| format!("protobuf: {error}"))?;
    let expected = without_kind(&value);
    same("protobuf against JSON", &from_protobuf, &expected)?;
    for (name, object) in [("JSON", &value), ("protobuf", &from_protobuf)] {
        let message = protobuf::encode_message(ty, object).map_err(|error| error.to_string())?;
        let encoded = protobuf::envelop(envelope.api_version, envelope.kind, &message);
        if encoded != protobuf_bytes {
            let at = encoded.iter().zip(&protobuf_bytes).take_while(|(a, b)| a == b).count();
            return Err(format!("the protobuf written from {name} differs at byte {at}"));
        }
    }
    let bodies =
        [(MediaType::Json, &json_text[..]), (MediaType::Yaml, &yaml_text), (MediaType::Protobuf, &protobuf_bytes)];
    requests(schema, ty, &expected, &bodies)
}

/// As bodies of requests, all three give the object too, with nothing unknown in it.
fn requests(schema: &Schema, ty: &Type, expected: &Value, bodies: &[(MediaType, &[u8])]) -> Result<(), String> {
    for (media, body) in bodies {
        let decoded = decode_object(schema, ty, *media, body, FieldValidation::Strict).map_err(|e| e.to_string())?;
        same(&format!("{media:?} body"), &without_kind(&decoded.value), expected)?;
    }
    Ok(())
}

fn without_kind(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(map) = &mut value {
        map.remove("apiVersion");
        map.remove("kind");
    }
    value
}

fn same(what: &str, got: &Value, want: &Value) -> Result<(), String> {
    match difference("", got, want) {
        None => Ok(()),
        Some(difference) => Err(format!("{what}: {difference}")),
    }
}

fn difference(at: &str, got: &Value, want: &Value) -> Option<String> {
    match (got, want) {
        (Value::Object(got), Value::Object(want)) => {
            let keys: std::collections::BTreeSet<&String> = got.keys().chain(want.keys()).collect();
            keys.into_iter().find_map(|key| match (got.get(key), want.get(key)) {
                (Some(got), Some(want)) => difference(&format!("{at}.{key}"), got, want),
                (Some(got), None) => Some(format!("{at}.{key} is {got}, and should not be there")),
                (None, want) => Some(format!("{at}.{key} is missing: {want:?}")),
            })
        }
        (Value::Array(got), Value::Array(want)) if got.len() == want.len() => {
            got.iter().zip(want).enumerate().find_map(|(i, (got, want))| difference(&format!("{at}[{i}]"), got, want))
        }
        _ if got == want => None,
        _ => Some(format!("{at} is {got}, should be {want}")),
    }
}

/// Answers `--list` as the test runner expects it: this is one test, and none that is ignored.
fn listed() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has("--list") && !has("--ignored") {
        println!("reference: test");
    }
    has("--list")
}
