//! The recorded sequences of applies, patches and updates, as far as they can be judged without a server: each step starts
//! from the object that was recorded before it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use apimachinery::codec::{FieldValidation, conform};
use apimachinery::managed_fields::{self, ApplyError, Set, Writer};
use apimachinery::schema::{Gvk, Schema, Type, apply_defaults, custom_type};
use apimachinery::{meta, patch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{Outcome, same};

/// What a step is tried on.
struct Step<'a> {
    ty: &'a Type,
    /// The object before; null where there is none.
    live: &'a Value,
    record: &'a Value,
    manager: &'a str,
    force: bool,
    reset: Set,
}

/// Whether a step could be judged.
enum Judged {
    Yes,
    /// Its answer depends on validation, or on other parts of the server.
    No,
}

pub fn sequences(folder: &Path) -> Vec<Outcome> {
    let failed = |what: &str, error: String| vec![(what.to_owned(), Err(error))];
    let thing = match thing_type(folder) {
        Ok(thing) => thing,
        Err(error) => return failed("patches-1.36-crd.json", error),
    };
    let text = match std::fs::read_to_string(folder.join("patches-1.36.jsonl")) {
        Ok(text) => text,
        Err(error) => return failed("patches-1.36.jsonl", error.to_string()),
    };
    let mut outcomes = Vec::new();
    let mut left_out = 0;
    for line in text.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(sequence) => left_out += sequence_of(&sequence, &thing, &mut outcomes),
            Err(error) => outcomes.push(("patches-1.36.jsonl".into(), Err(error.to_string()))),
        }
    }
    println!("reference: {left_out} recorded steps are for the server to judge");
    outcomes
}

fn thing_type(folder: &Path) -> Result<Arc<Type>, String> {
    let text = std::fs::read_to_string(folder.join("patches-1.36-crd.json")).map_err(|error| error.to_string())?;
    let crd: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").ok_or("no schema")?;
    let gvk = Gvk { group: "t.example.com".into(), version: "v1".into(), kind: "Thing".into() };
    Ok(custom_type(gvk, Some(schema)))
}

fn sequence_of(sequence: &Value, thing: &Arc<Type>, outcomes: &mut Vec<Outcome>) -> usize {
    let path = sequence["path"].as_str().unwrap_or_default();
    let name = sequence["name"].as_str().unwrap_or_default();
    let steps = sequence["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let mut live = Value::Null;
    let mut left_out = 0;
    for (number, record) in steps.iter().enumerate() {
        let label = format!("{path} {name} step {number} ({})", record["kind"].as_str().unwrap_or_default());
        match judge(record, &live, thing) {
            Ok(Judged::Yes) => outcomes.push((label, Ok(()))),
            Ok(Judged::No) => left_out += 1,
            Err(error) => outcomes.push((label, Err(error))),
        }
        if record["code"].as_i64().is_some_and(|code| code < 300) && record.get("object").is_some() {
            live = record["object"].clone();
            meta::set_uid(&mut live, "uid");
        }
    }
    left_out
}

fn type_of(object: &Value, thing: &Arc<Type>) -> Result<Arc<Type>, String> {
    let (api_version, kind) = (meta::api_version(object), meta::kind(object));
    if kind == "Thing" {
        return Ok(thing.clone());
    }
    Schema::builtin().type_for_kind(api_version, kind).cloned().ok_or_else(|| format!("no {api_version} {kind}"))
}

fn judge(record: &Value, live: &Value, thing: &Arc<Type>) -> Result<Judged, String> {
    let subresource = record["subresource"].as_str().unwrap_or_default();
    let kind = record["kind"].as_str().unwrap_or_default();
    let code = record["code"].as_i64().unwrap_or_default();
    let whose = if live.is_null() { &record["body"] } else { live };
    if matches!(code, 404 | 415) || (code == 422 && kind != "json") || (kind == "put" && code != 200) {
        return Ok(Judged::No);
    }
    let ty = type_of(whose, thing)?;
    let query = record["query"].as_str().unwrap_or_default();
    let manager = query.split(['?', '&']).find_map(|part| part.strip_prefix("fieldManager=")).unwrap_or_default();
    let reset = match subresource {
        "status" => Set::of_fields(&["spec"]),
        _ if ty.field("status").is_some() => Set::of_fields(&["status"]),
        _ => Set::default(),
    };
    let step = Step { ty: &ty, live, record, manager, force: query.contains("force=true"), reset };
    match kind {
        "apply" => step.apply(code),
        _ => step.write(kind, code, subresource),
    }
}

impl Step<'_> {
    fn writer(&self, subresource: &'static str) -> Writer<'_> {
        let api_version = match self.live {
            Value::Null => meta::api_version(&self.record["body"]),
            live => meta::api_version(live),
        };
        Writer { manager: self.manager, subresource, api_version, now: "2026-01-01T00:00:00Z", reset: &self.reset }
    }

    fn apply(&self, code: i64) -> Result<Judged, String> {
        let body = &self.record["body"];
        let result = managed_fields::apply(self.ty, self.live, body, &self.writer(""), self.force);
        if code == 409 {
            let Err(ApplyError::Conflicts(conflicts)) = result else { return Err("no conflict".into()) };
            let got: BTreeSet<&str> = conflicts.iter().map(|conflict| conflict.field.as_str()).collect();
            let want: BTreeSet<&str> =
                self.record["causes"].as_array().into_iter().flatten().filter_map(|cause| cause[0].as_str()).collect();
            return if got == want { Ok(Judged::Yes) } else { Err(format!("conflicts {got:?}, should be {want:?}")) };
        }
        let result = result.map_err(|error| error.to_string())?;
        self.same_managers(&result)?;
        let mut result = conform(self.ty, result, FieldValidation::Ignore).map_err(|error| error.to_string())?.value;
        if let Some(Value::Object(texts)) = result.as_object_mut().and_then(|map| map.remove("stringData")) {
            texts.iter().for_each(|(key, text)| result["data"][key] = base64_of(text));
        }
        contained("", &result, &self.record["object"])?;
        Ok(Judged::Yes)
    }

    fn write(&self, kind: &str, code: i64, subresource: &str) -> Result<Judged, String> {
        let body = &self.record["body"];
        let mut before = self.live.clone();
        meta::remove(&mut before, "uid");
        let new = match kind {
            "put" => Ok(body.clone()),
            "merge" => {
                let mut new = before.clone();
                patch::merge::apply(&mut new, body);
                Ok(new)
            }
            "strategic" => patch::strategic::apply(self.ty, before.clone(), body.clone()),
            _ => patch::json::apply(&before, body),
        };
        if code == 422 {
            return match new {
                Err(patch::PatchError::DoesNotApply(_)) => Ok(Judged::Yes),
                _ => Err("the patch applies".into()),
            };
        }
        let new = new.map_err(|error| error.to_string())?;
        let mut new = conform(self.ty, new, FieldValidation::Ignore).map_err(|error| error.to_string())?.value;
        if kind == "put" {
            meta::remove(&mut new, "resourceVersion");
        }
        apply_defaults(self.ty, &mut new);
        let subresource = if subresource == "status" { "status" } else { "" };
        keep_what_cannot_change(&mut new, &before, subresource);
        contained("", &without_managers(&new), &self.record["object"])?;
        // The server tracks what the object is after defaulting, of which only a part is known here; where that part is
        // not enough, the recorded object tells the rest.
        self.tracked(new, subresource).or_else(|_| self.tracked(self.record["object"].clone(), subresource))
    }

    fn tracked(&self, mut new: Value, subresource: &'static str) -> Result<Judged, String> {
        meta::set_managed_fields(&mut new, meta::managed_fields(self.live).to_vec());
        let result = managed_fields::update(self.ty, self.live, new, &self.writer(subresource));
        self.same_managers(&result)?;
        Ok(Judged::Yes)
    }

    fn same_managers(&self, result: &Value) -> Result<(), String> {
        // Controllers wrote meanwhile; they are not part of the sequence.
        let known: BTreeSet<&str> = meta::managed_fields(self.live)
            .iter()
            .filter_map(|entry| entry["manager"].as_str())
            .chain([self.manager, "before-first-apply"])
            .collect();
        let want = by_manager(&self.record["object"], &known);
        same("managed fields", &by_manager(result, &known), &want)
    }
}

/// What a Secret's strategy makes of `stringData`.
fn base64_of(text: &Value) -> Value {
    STANDARD.encode(text.as_str().unwrap_or_default()).into()
}

/// What the server's strategies do: the status is written through its own subresource, and nothing else there.
fn keep_what_cannot_change(new: &mut Value, before: &Value, subresource: &str) {
    let kept: &[&str] = if subresource == "status" { &["spec"] } else { &["status"] };
    for key in kept {
        match (before.get(key), new.as_object_mut()) {
            (Some(value), Some(new)) => drop(new.insert((*key).into(), value.clone())),
            (None, Some(new)) => drop(new.remove(*key)),
            _ => {}
        }
    }
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    for key in ["managedFields", "uid"] {
        meta::remove(&mut object, key);
    }
    object
}

/// Entries by who they are, without the time.
fn by_manager(object: &Value, known: &BTreeSet<&str>) -> Value {
    let entries = meta::managed_fields(object).iter();
    let entries =
        entries.filter(|entry| entry["manager"].as_str().is_some_and(|name| known.contains(name))).map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            let key = ["manager", "operation", "apiVersion", "subresource"].map(text).join(" ");
            (key, entry["fieldsV1"].clone())
        });
    Value::Object(entries.collect())
}

/// What the server's strategies make of an object: counted, moved elsewhere, or defaulted from zero.
const SERVER_MADE: [&str; 8] = [
    ".metadata.generation",
    ".metadata.managedFields",
    ".metadata.uid",
    ".metadata.annotations.deprecated.daemonset.template.generation",
    ".status",
    ".spec.limited.limitResponse.queuing.handSize",
    ".spec.limited.limitResponse.queuing.queueLengthLimit",
    ".spec.limited.limitResponse.queuing.queues",
];

/// Everything that is here is there; the server adds defaults, addresses and names of its own.
fn contained(at: &str, here: &Value, there: &Value) -> Result<(), String> {
    if SERVER_MADE.contains(&at) {
        return Ok(());
    }
    match (here, there) {
        (Value::Object(here), Value::Object(there)) => here.iter().try_for_each(|(key, value)| {
            contained(&format!("{at}.{key}"), value, there.get(key).unwrap_or(&Value::Null))
        }),
        // Admission appends: tokens, tolerations, taints.
        (Value::Array(here), Value::Array(there)) if here.len() <= there.len() => here
            .iter()
            .zip(there)
            .enumerate()
            .try_for_each(|(place, (here, there))| contained(&format!("{at}[{place}]"), here, there)),
        (here, Value::Null) if *here == json!({}) || *here == json!([]) || here.is_null() => Ok(()),
        (here, there) if here == there => Ok(()),
        _ => Err(format!("{at} is {here}, should be {there}")),
    }
}
