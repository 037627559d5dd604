//! `apply`: what a file says is brought about, with a patch made of the last applied, the wanted and the present object,
//! or with `--server-side` by the server.

use apimachinery::Schema;
use apimachinery::patch::{merge, strategic};
use clap::Args;
use serde_json::{Value, json};

use crate::api::{self, Call, Target};
use crate::error::{Error, Result};
use crate::manifests::{self, Manifest};
use crate::printers::tree;
use crate::session::Session;
use crate::streams::Streams;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";

#[derive(Debug, Args)]
pub struct Options {
    /// Files or directories with the objects, or - for standard input
    #[arg(long, short, value_delimiter = ',', required = true)]
    filename: Vec<String>,
    /// Process the directories of -f with all that is below them
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Let the server apply
    #[arg(long)]
    server_side: bool,
    /// Take fields from other managers (with --server-side)
    #[arg(long, requires = "server_side")]
    force_conflicts: bool,
    /// The manager of the fields
    #[arg(long)]
    field_manager: Option<String>,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let mut failed: Option<Error> = None;
    for manifest in manifests::read(&options.filename, options.recursive)? {
        match one(&options, manifest, session, streams).await {
            Ok(()) => {}
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    writeln!(streams.err, "{earlier}")?;
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn one(options: &Options, mut manifest: Manifest, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let target = super::locate(session, &manifest).await?;
    if target.resource.namespaced {
        manifest.object["metadata"]["namespace"] = target.namespace.clone().into();
    }
    let what = if options.server_side {
        server_side(options, &manifest, &target, session).await?
    } else {
        client_side(options, &manifest, &target, session, streams).await?
    };
    Ok(writeln!(streams.out, "{} {what}", target.title())?)
}

async fn server_side(
    options: &Options,
    manifest: &Manifest,
    target: &Target,
    session: &Session,
) -> Result<&'static str> {
    let call = Call::patch(target.path(), "application/apply-patch+yaml", &manifest.object)
        .query("fieldManager", options.field_manager.as_deref().unwrap_or("kubectl"))
        .query("fieldValidation", "Strict")
        .query("force", if options.force_conflicts { "true" } else { "false" });
    api::get(&session.client, call).await?;
    Ok("serverside-applied")
}

async fn client_side(
    options: &Options,
    manifest: &Manifest,
    target: &Target,
    session: &Session,
    streams: &mut Streams,
) -> Result<&'static str> {
    let manager = options.field_manager.as_deref().unwrap_or("kubectl-client-side-apply");
    let modified = annotated(&manifest.object);
    let current = match target.read(&session.client).await {
        Ok(current) => current,
        Err(error) if error.is_not_found() => {
            let call = Call::post(target.resource.path(Some(&target.namespace), None), &modified)
                .query("fieldManager", manager)
                .query("fieldValidation", "Strict");
            let doing = format!("error when creating \"{}\"", manifest.source);
            api::get(&session.client, call).await.map_err(|error| error.while_doing(doing))?;
            return Ok("created");
        }
        Err(error) => return Err(error),
    };
    if current["metadata"]["annotations"].get(LAST_APPLIED).is_none() {
        writeln!(
            streams.err,
            "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
            target.resource.plural_with_group(),
            target.name
        )?;
    }
    let (kind, patch) = plan(&modified, &current)?;
    if patch.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok("unchanged");
    }
    let call =
        Call::patch(target.path(), kind, &patch).query("fieldManager", manager).query("fieldValidation", "Strict");
    let doing = format!("error when applying patch to \"{}\"", manifest.source);
    let after = api::get(&session.client, call).await.map_err(|error| error.while_doing(doing))?;
    let same = after["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"];
    Ok(if same { "unchanged" } else { "configured" })
}

/// The patch of a present object, and its media type.
fn plan(modified: &Value, current: &Value) -> Result<(&'static str, Value)> {
    let original: Value = current["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| json!({}));
    let text = |key: &str| modified[key].as_str().unwrap_or_default();
    match Schema::builtin().type_for_kind(text("apiVersion"), text("kind")) {
        Some(ty) => match strategic::three_way(ty, &original, modified, current) {
            Ok(patch) => Ok((STRATEGIC, patch)),
            Err(error) => Err(Error::Usage(format!("creating patch: {error}"))),
        },
        None => Ok((MERGE, merge::three_way(&original, modified, current))),
    }
}

/// The object with itself in its annotation.
fn annotated(object: &Value) -> Value {
    let mut object = object.clone();
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{}\n", tree::sorted(&object));
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
        assert_eq!(kind, STRATEGIC);
        assert_eq!(patch["data"], json!({"a": "3", "b": null}));
    }

    #[test]
    fn the_same_file_again_changes_nothing() {
        let object = annotated(&config(json!({"a": "1"})));
        assert_eq!(plan(&object, &object).unwrap().1, json!({}));
    }
}
