//! `apply`: what a file says is brought about, with a patch made of the last applied, the wanted and the present object,
//! or with `--server-side` by the server.

use apimachinery::Schema;
use apimachinery::patch::{merge, strategic};
use clap::Args;
use serde_json::{Value, json};

use crate::api::{self, Call};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::flags::truth;
use crate::options::{Changing, DryRun, Files};
use crate::printers::json;
use crate::printers::output::{Format, Printer};
use crate::resources::{self, Found, InFiles, Target};
use crate::session::Session;
use crate::streams::Streams;

pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How often a patch is made anew when the object changes meanwhile.
const RETRIES: usize = 5;
const CONFLICTS: &str = "Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    changing: Changing,
    /// Label query of the objects in the files
    #[arg(long, short = 'l', default_value = "", hide_default_value = true)]
    selector: String,
    /// Let the server apply
    #[arg(long)]
    server_side: bool,
    /// Take fields from other managers (with --server-side)
    #[arg(long)]
    force_conflicts: bool,
    /// The manager of the fields
    #[arg(long, default_value = "", hide_default_value = true)]
    field_manager: String,
    /// strict, warn or ignore: what is done about fields that the server does not know
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    validate: String,
    /// Changed fields of the object go before what was applied
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = clap::builder::ValueParser::new(truth), action = clap::ArgAction::Set)]
    overwrite: bool,
}

/// What `fieldValidation` says for `--validate`.
///
/// # Errors
/// What is none of its values.
pub fn field_validation(validate: &str) -> Result<&'static str> {
    match validate {
        "strict" | "true" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "ignore" | "false" => Ok("Ignore"),
        other => usage(format!(
            "invalid - validate option {other:?}; must be one of: strict (or true), warn, ignore (or false)"
        )),
    }
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    validate(&options)?;
    let validated = field_validation(&options.validate)? != "Ignore";
    let mut printer = Format::of_objects(&options.changing.output, &options.changing.template)?
        .map(|format| Printer::new(format, options.changing.show_managed_fields));
    let InFiles { found, mut failed } =
        resources::in_files(session, (&options.files, validated), &options.selector, streams).await?;
    if found.is_empty() && failed.is_empty() {
        return usage("no objects passed to apply");
    }
    let mut applied = Vec::new();
    for found in found {
        match one(&options, found, session, streams).await {
            Ok((target, object, what)) => match &printer {
                Some(_) => applied.push(object),
                None => writeln!(streams.out, "{} {what}{}", target.title(), options.changing.dry_run.suffix())?,
            },
            Err(error) => failed.push(error),
        }
    }
    if let Some(printer) = &mut printer
        && !applied.is_empty()
    {
        write!(streams.out, "{}", print(printer, applied)?)?;
    }
    Error::of(failed)
}

fn validate(options: &Options) -> Result<()> {
    if options.files.is_empty() {
        return usage("must specify one of -f and -k");
    }
    if options.force_conflicts && !options.server_side {
        return usage("--force-conflicts only works with --server-side");
    }
    if options.changing.dry_run == DryRun::Client && options.server_side {
        return usage("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)");
    }
    Ok(())
}

/// One object as it is, several as a list.
fn print(printer: &mut Printer, mut objects: Vec<Value>) -> Result<String> {
    if objects.len() == 1 {
        return printer.print(objects.remove(0));
    }
    if printer.is_name() {
        return objects.into_iter().map(|object| printer.print(object)).collect();
    }
    printer.print(json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {}}))
}

async fn one(
    options: &Options,
    found: Found,
    session: &Session,
    streams: &mut Streams,
) -> Result<(Target, Value, &'static str)> {
    let Found { target, object } = found;
    if target.name.is_empty() {
        let generated = object.text("metadata.generateName");
        if !generated.is_empty() {
            return usage(format!("from {generated}: cannot use generate name with apply"));
        }
        return usage(format!(
            "error when retrieving current configuration of \"{}\": resource name may not be empty",
            target.source
        ));
    }
    let (object, what) = if options.server_side {
        (server_side(options, &target, &object, session).await?, "serverside-applied")
    } else {
        client_side(options, &target, &object, session, streams).await?
    };
    warn_of_deletion(&object, streams)?;
    Ok((target, object, what))
}

async fn server_side(options: &Options, target: &Target, object: &Value, session: &Session) -> Result<Value> {
    let manager = if options.field_manager.is_empty() { "kubectl" } else { &options.field_manager };
    let call = Call::patch(target.path(), api::APPLY_PATCH, object)
        .query("dryRun", options.changing.dry_run.query())
        .query("fieldManager", manager)
        .query("fieldValidation", field_validation(&options.validate)?)
        .query("force", if options.force_conflicts { "true" } else { "false" });
    match session.client.json(&call).await {
        Err(Error::Server(status)) if status.reason == "Conflict" => usage(format!("{}\n{CONFLICTS}", status.message)),
        other => other,
    }
}

async fn client_side(
    options: &Options,
    target: &Target,
    object: &Value,
    session: &Session,
    streams: &mut Streams,
) -> Result<(Value, &'static str)> {
    let modified = annotated(object);
    let mut tries = 0;
    loop {
        let current = match target.read(&session.client).await {
            Ok(current) => current,
            Err(error) if error.is_not_found() => return create(options, target, &modified, session).await,
            Err(error) => {
                return Err(error.while_doing(
                    &format!("retrieving current configuration of:\n{}\nfrom server for:", told(target)),
                    &target.source,
                ));
            }
        };
        if tries == 0 && current["metadata"]["annotations"].get(LAST_APPLIED).is_none() {
            warn_of_missing(target, streams)?;
        }
        match patch(options, target, &modified, &current, session).await {
            Err(error) if error.is_conflict() && tries < RETRIES => tries += 1,
            other => return other,
        }
    }
}

/// What errors tell of an object.
fn told(target: &Target) -> String {
    let Target { resource, name, namespace, .. } = target;
    let kind = format!("{}/{}, Kind={}", resource.group, resource.version, resource.kind);
    let what = resource.described();
    format!("Resource: {what}, GroupVersionKind: {kind:?}\nName: {name:?}, Namespace: {namespace:?}")
}

/// Says that what was applied will not last.
fn warn_of_deletion(object: &Value, streams: &mut Streams) -> Result<()> {
    if !object.has("metadata.deletionTimestamp") {
        return Ok(());
    }
    let name = object.text("metadata.name");
    Ok(writeln!(streams.err, "Warning: Detected changes to resource {name} which is currently being deleted.")?)
}

fn warn_of_missing(target: &Target, streams: &mut Streams) -> Result<()> {
    let (plural, name) = (&target.resource.plural, &target.name);
    Ok(writeln!(
        streams.err,
        "Warning: resource {plural}/{name} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically."
    )?)
}

/// The parameters of every request that changes something.
fn changing(call: Call, options: &Options) -> Result<Call> {
    let manager = if options.field_manager.is_empty() { "kubectl-client-side-apply" } else { &options.field_manager };
    Ok(call
        .query("dryRun", options.changing.dry_run.query())
        .query("fieldManager", manager)
        .query("fieldValidation", field_validation(&options.validate)?))
}

async fn create(
    options: &Options,
    target: &Target,
    modified: &Value,
    session: &Session,
) -> Result<(Value, &'static str)> {
    if options.changing.dry_run == DryRun::Client {
        return Ok((modified.clone(), "created"));
    }
    let call = changing(Call::post(target.collection(), modified), options)?;
    let made = session.client.json(&call).await.map_err(|error| error.while_doing("creating", &target.source))?;
    Ok((made, "created"))
}

async fn patch(
    options: &Options,
    target: &Target,
    modified: &Value,
    current: &Value,
    session: &Session,
) -> Result<(Value, &'static str)> {
    let (kind, patch) = plan(modified, current)?;
    let empty = patch.as_object().is_some_and(serde_json::Map::is_empty);
    if empty || options.changing.dry_run == DryRun::Client {
        return Ok((current.clone(), if empty { "unchanged" } else { "configured" }));
    }
    let call = changing(Call::patch(target.path(), kind, &patch), options)?;
    let patched = session.client.json(&call).await;
    let patched = patched.map_err(|error| match error {
        Error::Server(mut status) if status.reason != "Conflict" => {
            status.message = format!(
                "error when applying patch:\n{}\nto:\n{}\nfor: {:?}: error when patching {:?}: {}",
                json::compact(&patch),
                told(target),
                target.source,
                target.source,
                status.message
            );
            Error::Server(status)
        }
        other => other,
    })?;
    Ok((patched, "configured"))
}

/// The patch of a present object, and its media type.
fn plan(modified: &Value, current: &Value) -> Result<(&'static str, Value)> {
    let original: Value = current["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| json!({}));
    match Schema::builtin().type_for_kind(modified.text("apiVersion"), modified.text("kind")) {
        Some(ty) => match strategic::three_way(ty, &original, modified, current) {
            Ok(patch) => Ok((api::STRATEGIC_PATCH, patch)),
            Err(error) => usage(format!("creating patch: {error}")),
        },
        None => Ok((api::MERGE_PATCH, merge::three_way(&original, modified, current))),
    }
}

/// The object with itself in its annotation.
pub fn annotated(object: &Value) -> Value {
    let mut object = object.clone();
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{}\n", json::compact(&object));
    object["metadata"]["annotations"][LAST_APPLIED] = text.into();
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
    }

    #[test]
    fn what_was_applied_and_is_gone_from_the_file_is_deleted_and_the_rest_stays() {
        let mut current = annotated(&config(json!({"a": "1", "b": "2"})));
        current["data"]["other"] = "x".into();
        let (kind, patch) = plan(&annotated(&config(json!({"a": "3"}))), &current).unwrap();
        assert_eq!(kind, api::STRATEGIC_PATCH);
        assert_eq!(patch["data"], json!({"a": "3", "b": null}));
    }

    #[test]
    fn the_same_file_again_changes_nothing() {
        let object = annotated(&config(json!({"a": "1"})));
        assert_eq!(plan(&object, &object).unwrap().1, json!({}));
    }

    #[test]
    fn the_annotation_is_gos_json() {
        let object = annotated(&config(json!({"a": "<"})));
        let text = object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(
            text,
            "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"\\u003c\"},\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n"
        );
    }
}
