//! Going back to an earlier revision.

use serde_json::{Map, Value, json};

use super::REVISION;
use super::history::{self, Revision};
use crate::api::{self, Call};
use crate::commands::apply::LAST_APPLIED;
use crate::describe;
use crate::error::{Result, usage};
use crate::fields::Fields;
use crate::options::DryRun;
use crate::resources::Found;
use crate::session::Session;

/// Annotations of a replica set that are its own, not its revision's.
const OWN: [&str; 6] = [
    LAST_APPLIED,
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// Goes back, and says what was done.
pub(super) async fn run(found: &Found, to: i64, dry_run: DryRun, session: &Session) -> Result<String> {
    let (target, object) = (&found.target, &found.object);
    let kind = target.resource.kind.as_str();
    if to < 0 {
        return usage(format!("unable to find specified revision {to} in history"));
    }
    if !matches!(kind, "Deployment" | "DaemonSet" | "StatefulSet") {
        return usage(format!("no rollbacker has been implemented for {:?}", target.resource.group_kind()));
    }
    let revisions = history::of(found, &session.client).await?;
    let revision = previous(&revisions, to, kind, &target.name)?;
    if object.flag("spec.paused") {
        return usage(format!(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume deployment/{}' and try again",
            target.name
        ));
    }
    if dry_run == DryRun::Client {
        return Ok(format!("{}{}", describe::raw_template(&revision.template), dry_run.suffix()));
    }
    let template = describe::without_hash(&revision.template);
    if template == describe::without_hash(object.at("spec.template")) {
        return Ok(format!("skipped rollback (current template already matches revision {to})"));
    }
    let call = if kind == "Deployment" {
        let patch = json!([
            {"op": "replace", "path": "/spec/template", "value": template},
            {"op": "replace", "path": "/metadata/annotations", "value": annotations(object, &revision.object)},
        ]);
        Call::patch(target.path(), api::JSON_PATCH, &patch)
    } else {
        Call::patch(target.path(), api::STRATEGIC_PATCH, revision.object.at("data"))
    };
    session.client.json(&call.query("dryRun", dry_run.query())).await?;
    Ok(format!("rolled back{}", dry_run.suffix()))
}

/// The revision before the last, or the one of a number.
fn previous<'a>(revisions: &'a [Revision], to: i64, kind: &str, name: &str) -> Result<&'a Revision> {
    let found = match to {
        0 => revisions.iter().rev().nth(1),
        _ => revisions.iter().find(|revision| revision.number == to),
    };
    match found {
        Some(revision) => Ok(revision),
        None if to == 0 && kind == "Deployment" => usage(format!("no rollout history found for deployment {name:?}")),
        None if to == 0 => usage("no last revision to roll back to"),
        None => usage(format!("unable to find specified revision {to} in history")),
    }
}

/// The annotations of a revision, with those of the deployment that belong to no revision.
fn annotations(deployment: &Value, set: &Value) -> Map<String, Value> {
    let of = |object: &Value, own: bool| -> Map<String, Value> {
        let all = object.map("metadata.annotations").into_iter().flatten();
        all.filter(|(key, _)| OWN.contains(&key.as_str()) == own)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut annotations = of(deployment, true);
    annotations.extend(of(set, false));
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_goes_to_the_revision_before_the_last_or_the_one_named() {
        let revision =
            |number: i64| Revision { number, object: Value::Null, template: Value::Null, whole: Value::Null };
        let revisions = [revision(1), revision(4), revision(6)];
        let to = |revisions: &[Revision], to| {
            previous(revisions, to, "Deployment", "web").map(|r| r.number).map_err(|e| e.to_string())
        };
        assert_eq!(to(&revisions, 0), Ok(4));
        assert_eq!(to(&revisions, 1), Ok(1));
        assert_eq!(to(&revisions, 2), Err("unable to find specified revision 2 in history".into()));
        assert_eq!(to(&revisions[..1], 0), Err("no rollout history found for deployment \"web\"".into()));
    }

    #[test]
    fn annotations_are_those_of_the_revision() {
        let deployment = json!({"metadata": {"annotations": {REVISION: "3", "a": "now"}}});
        let set = json!({"metadata": {"annotations": {REVISION: "1", "a": "then"}}});
        assert_eq!(Value::Object(annotations(&deployment, &set)), json!({REVISION: "3", "a": "then"}));
    }
}
