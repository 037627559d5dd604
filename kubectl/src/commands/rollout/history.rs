//! The revisions of a deployment, daemon set or stateful set.

use serde_json::Value;

use super::REVISION;
use crate::api::{CHUNK, Call, Client};
use crate::describe;
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::printers::columns;
use crate::printers::output::Printer;
use crate::resources::Found;

const CAUSE: &str = "kubernetes.io/change-cause";

/// One revision: a replica set, or the record of a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    pub number: i64,
    pub object: Value,
    /// The pod template of this revision.
    pub template: Value,
    /// What is printed whole.
    pub whole: Value,
}

/// What reads a revision of an object from what keeps it.
type Read = fn(&Found, &Value) -> Option<Revision>;

/// All revisions, oldest first.
///
/// # Errors
/// For kinds that have none.
pub async fn of(found: &Found, client: &Client) -> Result<Vec<Revision>> {
    let (plural, read): (&str, Read) = match found.target.resource.kind.as_str() {
        "Deployment" => ("replicasets", of_replica_set),
        "DaemonSet" | "StatefulSet" => ("controllerrevisions", of_record),
        _ => {
            let kind = found.target.resource.group_kind();
            return usage(format!("no history viewer has been implemented for {kind:?}"));
        }
    };
    let selector = apimachinery::labels::Selector::from_label_selector(Some(found.object.at("spec.selector")))
        .map_err(|error| Error::Usage(error.to_string()))?;
    let call = Call::get(format!("/apis/apps/v1/namespaces/{}/{plural}", found.target.namespace))
        .query("labelSelector", selector.to_string());
    let uid = found.object.text("metadata.uid");
    let owned = |object: &&Value| {
        let owners = object.list("metadata.ownerReferences");
        owners.iter().any(|owner| owner.flag("controller") && owner.text("uid") == uid)
    };
    let objects = client.list(&call, CHUNK).await?;
    let mut revisions: Vec<Revision> = objects.iter().filter(owned).filter_map(|object| read(found, object)).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

fn of_replica_set(_: &Found, set: &Value) -> Option<Revision> {
    let number = set["metadata"]["annotations"][REVISION].as_str()?.parse().ok()?;
    Some(Revision {
        number,
        object: set.clone(),
        template: set.at("spec.template").clone(),
        whole: of_kind("ReplicaSet", set),
    })
}

/// A record holds a patch of the object that it is a revision of.
fn of_record(found: &Found, record: &Value) -> Option<Revision> {
    let ty = apimachinery::Schema::builtin().type_for_kind("apps/v1", &found.target.resource.kind)?;
    let patched = apimachinery::patch::strategic::apply(ty, found.object.clone(), record.at("data").clone()).ok()?;
    Some(Revision {
        number: record.at("revision").as_i64()?,
        object: record.clone(),
        template: patched.at("spec.template").clone(),
        whole: of_kind(&found.target.resource.kind, &patched),
    })
}

/// An object with the kind that the items of lists leave out.
fn of_kind(kind: &str, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = "apps/v1".into();
    object["kind"] = kind.into();
    object
}

/// The objects of all revisions, or of one.
///
/// # Errors
/// When there is no such revision.
pub fn whole(revisions: Vec<Revision>, wanted: i64, printer: &mut Printer) -> Result<String> {
    check(wanted)?;
    if wanted == 0 {
        return revisions.into_iter().map(|revision| printer.print(revision.whole)).collect();
    }
    match revisions.into_iter().find(|revision| revision.number == wanted) {
        Some(revision) => printer.print(revision.whole),
        None => usage("unable to find the specified revision"),
    }
}

fn check(wanted: i64) -> Result<()> {
    if wanted < 0 { usage(format!("revision must be a positive integer: {wanted}")) } else { Ok(()) }
}

/// The table of revisions, or the template of one.
///
/// # Errors
/// When there is no such revision.
pub fn print(revisions: &[Revision], wanted: i64) -> Result<String> {
    if revisions.is_empty() {
        return Ok("No rollout history found.".to_owned());
    }
    check(wanted)?;
    if wanted > 0 {
        return match revisions.iter().find(|revision| revision.number == wanted) {
            Some(revision) => Ok(describe::raw_template(&with_cause(revision))),
            None => usage("unable to find the specified revision"),
        };
    }
    let mut text = String::from("REVISION\tCHANGE-CAUSE\n");
    for Revision { number, object, .. } in revisions {
        let cause = object["metadata"]["annotations"][CAUSE].as_str().filter(|cause| !cause.is_empty());
        text.push_str(&format!("{number}\t{}\n", cause.unwrap_or("<none>")));
    }
    Ok(columns::align(&text, columns::DESCRIPTION))
}

/// The template of a revision, with the cause that its replica set tells.
fn with_cause(Revision { object, template, .. }: &Revision) -> Value {
    let (mut template, cause) = (template.clone(), &object["metadata"]["annotations"][CAUSE]);
    if object.text("kind") != "ControllerRevision" && cause.as_str().is_some_and(|cause| !cause.is_empty()) {
        template["metadata"]["annotations"][CAUSE] = cause.clone();
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn revisions_are_a_table_with_their_causes() {
        let revision = |number: i64, cause: Option<&str>| Revision {
            number,
            object: json!({"metadata": {"annotations": {CAUSE: cause}}}),
            template: Value::Null,
            whole: Value::Null,
        };
        let text = print(&[revision(1, None), revision(12, Some("new image"))], 0).unwrap();
        assert_eq!(text, "REVISION  CHANGE-CAUSE\n1         <none>\n12        new image\n");
        assert_eq!(print(&[], 0).unwrap(), "No rollout history found.");
        assert!(print(&[revision(1, None)], 2).is_err());
    }
}
