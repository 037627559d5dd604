//! What `label` and `annotate` share: reading `KEY=VALUE` and `KEY-`, and the merge patch that makes it so.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::api::{self, Call};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::options::{Changing, DryRun, Selection};
use crate::printers::output::{Format, Printer};
use crate::resources::{self, Found, Unnamed};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    changing: Changing,
    /// Replace values that there are
    #[arg(long)]
    overwrite: bool,
    /// Show what there is
    #[arg(long)]
    list: bool,
    /// All objects of the types in the namespace
    #[arg(long)]
    all: bool,
    /// Only change the object when this is its version
    #[arg(long, default_value = "", hide_default_value = true)]
    resource_version: String,
    /// The manager of the fields
    #[arg(long, default_value = "", hide_default_value = true)]
    field_manager: String,
}

/// Labels or annotations.
pub struct Kind {
    pub noun: &'static str,
    pub field: &'static str,
    pub manager: &'static str,
}

/// Values to set, and keys to remove.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    set: BTreeMap<String, String>,
    removed: Vec<String>,
}

pub async fn run(mut options: Options, kind: &Kind, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let changes = complete(&mut options, kind)?;
    let mut printer = Format::of_objects(&options.changing.output, &options.changing.template)?
        .map(|format| Printer::new(format, options.changing.show_managed_fields));
    let selection = &options.selection;
    let unnamed = if options.all { Unnamed::All } else { Unnamed::Error };
    let queries = resources::queries(session, selection, unnamed, streams).await?;
    let (found, mut failed) = resources::visit(&session.client, &queries, selection).await;
    for found in found {
        match one(&options, kind, &changes, &found, session, streams).await {
            Ok(Some(object)) => match &mut printer {
                Some(printer) => write!(streams.out, "{}", printer.print(object)?)?,
                None => tell(&options, kind, &changes, &found, streams)?,
            },
            Ok(None) => {}
            Err(error) => failed.push(error),
        }
    }
    Error::of(failed)
}

fn complete(options: &mut Options, kind: &Kind) -> Result<Changes> {
    let noun = kind.noun;
    let (resources, changes) = split(&options.selection.arguments, noun)?;
    if resources.is_empty() && options.selection.files.is_empty() {
        return usage("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    let parsed = parse(&changes, noun)?;
    options.selection.arguments = resources;
    if parsed == Changes::default() && !options.list {
        return usage(format!("at least one {noun} update is required"));
    }
    if options.all && !options.selection.selector.is_empty() {
        return usage("cannot set --all and --selector at the same time");
    }
    Ok(parsed)
}

/// The arguments that name objects, and those that are changes.
fn split(arguments: &[String], noun: &str) -> Result<(Vec<String>, Vec<String>)> {
    let is_change = |argument: &String| argument.contains('=') || argument.ends_with('-');
    let at = arguments.iter().position(is_change).unwrap_or(arguments.len());
    let (resources, changes) = arguments.split_at(at);
    match changes.iter().find(|argument| !is_change(argument)) {
        Some(late) => usage(format!("all resources must be specified before {noun} changes: {late}")),
        None => Ok((resources.to_vec(), changes.to_vec())),
    }
}

fn parse(changes: &[String], noun: &str) -> Result<Changes> {
    let mut parsed = Changes::default();
    for change in changes {
        match change.split_once('=') {
            Some((key, value)) if !key.is_empty() && (noun == "annotation" || !value.contains('=')) => {
                parsed.set.insert(key.to_owned(), value.to_owned());
            }
            Some(("", _)) => {}
            Some(_) => return usage(format!("invalid {noun} spec: {change}")),
            None => parsed.removed.push(change.trim_end_matches('-').to_owned()),
        }
    }
    if parsed.removed.iter().any(|key| parsed.set.contains_key(key)) {
        return usage(format!("can not both modify and remove a {noun} in the same command"));
    }
    Ok(parsed)
}

/// Changes one object; `None` where it is only shown.
async fn one(
    options: &Options,
    kind: &Kind,
    changes: &Changes,
    found: &Found,
    session: &Session,
    streams: &mut Streams,
) -> Result<Option<Value>> {
    let present = found.object.at("metadata")[kind.field].clone();
    if options.list {
        for (key, value) in present.map("").into_iter().flatten() {
            writeln!(streams.out, "{key}={}", value.as_str().unwrap_or_default())?;
        }
        return Ok(None);
    }
    if !options.overwrite {
        refuse_overwriting(kind, changes, &present)?;
    }
    if kind.field == "labels" {
        for key in changes.removed.iter().filter(|key| present[key.as_str()].is_null()) {
            writeln!(streams.out, "label \"{key}\" not found.")?;
        }
    }
    let patch = patch(options, kind, changes, &present);
    let dry_run = options.changing.dry_run;
    if dry_run == DryRun::Client {
        let mut object = found.object.clone();
        json_merge(&mut object, &patch);
        return Ok(Some(object));
    }
    let manager = if options.field_manager.is_empty() { kind.manager } else { &options.field_manager };
    let call = Call::patch(found.target.path(), api::MERGE_PATCH, &patch)
        .query("fieldManager", manager)
        .query("dryRun", dry_run.query());
    session.client.json(&call).await.map(Some)
}

fn refuse_overwriting(kind: &Kind, changes: &Changes, present: &Value) -> Result<()> {
    let other =
        |(key, value): &(&String, &String)| present[key.as_str()].as_str().is_some_and(|now| now != value.as_str());
    let told: Vec<String> = changes
        .set
        .iter()
        .filter(other)
        .map(|(key, _)| format!("'{key}' already has a value ({})", present[key.as_str()].as_str().unwrap_or_default()))
        .collect();
    match (told.is_empty(), kind.field) {
        (true, _) => Ok(()),
        (false, "labels") => usage(format!("{}, and --overwrite is false", told[0])),
        (false, _) => {
            usage(format!("--overwrite is false but found the following declared annotation(s): {}", told.join("; ")))
        }
    }
}

/// What differs from what is there.
fn patch(options: &Options, kind: &Kind, changes: &Changes, present: &Value) -> Value {
    let mut differing = Map::new();
    for (key, value) in changes.set.iter().filter(|(key, value)| present[key.as_str()] != value.as_str()) {
        differing.insert(key.clone(), value.as_str().into());
    }
    for key in changes.removed.iter().filter(|key| !present[key.as_str()].is_null()) {
        differing.insert(key.clone(), Value::Null);
    }
    let mut metadata = Map::new();
    if !differing.is_empty() {
        metadata.insert(kind.field.to_owned(), differing.into());
    }
    if !options.resource_version.is_empty() {
        metadata.insert("resourceVersion".to_owned(), options.resource_version.as_str().into());
    }
    if metadata.is_empty() { json!({}) } else { json!({"metadata": metadata}) }
}

fn json_merge(object: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Null => {
                if let Some(fields) = object.as_object_mut() {
                    fields.remove(key);
                }
            }
            Value::Object(_) => json_merge(&mut object[key.as_str()], value),
            other => object[key.as_str()] = other.clone(),
        }
    }
}

fn tell(options: &Options, kind: &Kind, changes: &Changes, found: &Found, streams: &mut Streams) -> Result<()> {
    let present = &found.object.at("metadata")[kind.field];
    let unchanged = patch(options, kind, changes, present) == json!({});
    let verb = match kind.field {
        "labels" if unchanged => "not labeled",
        "labels" if changes.set.is_empty() => "unlabeled",
        "labels" => "labeled",
        _ => "annotated",
    };
    Ok(writeln!(streams.out, "{} {verb}{}", found.target.title(), options.changing.dry_run.suffix())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn objects_stand_before_changes() {
        let (resources, changes) = split(&words("pod x a=b c-"), "label").unwrap();
        assert_eq!((resources, changes), (words("pod x"), words("a=b c-")));
        let error = split(&words("pod x a=b y"), "label").unwrap_err().to_string();
        assert_eq!(error, "all resources must be specified before label changes: y");
    }

    #[test]
    fn changes_set_or_remove() {
        let changes = parse(&words("a=b c-"), "label").unwrap();
        assert_eq!((changes.set["a"].as_str(), changes.removed.as_slice()), ("b", &["c".to_owned()][..]));
        assert!(parse(&words("a=b=c"), "label").is_err());
        assert_eq!(parse(&words("a=b=c"), "annotation").unwrap().set["a"], "b=c");
        assert!(parse(&words("a=b a-"), "label").is_err());
    }
}
