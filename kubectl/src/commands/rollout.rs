//! `rollout`: watch, list, undo and restart the roll-outs of deployments, daemon sets and stateful sets.

mod progress;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::{self, Call, Target};
use crate::error::{Error, Result, usage};
use crate::options::{Selection, duration};
use crate::printers::columns;
use crate::session::Session;
use crate::streams::Streams;
use progress::{Progress, progress};

const REVISION: &str = "deployment.kubernetes.io/revision";

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the status of the rollout
    Status {
        #[command(flatten)]
        selection: Selection,
        /// Watch until it is done
        #[arg(long, short, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, require_equals = true)]
        watch: bool,
        /// How long to watch; 0 is for ever
        #[arg(long, value_parser = duration, default_value = "0s")]
        timeout: Duration,
    },
    /// View the revisions of a deployment
    History {
        #[command(flatten)]
        selection: Selection,
    },
    /// Undo a previous rollout of a deployment
    Undo {
        #[command(flatten)]
        selection: Selection,
        /// The revision to go back to; 0 is the previous one
        #[arg(long, default_value_t = 0)]
        to_revision: i64,
    },
    /// Restart a resource
    Restart {
        #[command(flatten)]
        selection: Selection,
    },
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let (Command::Status { selection, .. }
    | Command::History { selection }
    | Command::Undo { selection, .. }
    | Command::Restart { selection }) = &options.command;
    for target in super::targets(session, selection, false).await? {
        match &options.command {
            Command::Status { watch, timeout, .. } => status(&target, *watch, *timeout, session, streams).await?,
            Command::History { .. } => history(&target, session, streams).await?,
            Command::Undo { to_revision, .. } => undo(&target, *to_revision, session, streams).await?,
            Command::Restart { .. } => restart(&target, session, streams).await?,
        }
    }
    Ok(())
}

async fn status(
    target: &Target,
    watch: bool,
    timeout: Duration,
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let mut last = String::new();
    let mut tell = |object: &Value| -> Result<bool> {
        let Progress { message, done } = progress(object)?;
        if message != last {
            writeln!(streams.out, "{message}")?;
            streams.out.flush()?;
        }
        last = message;
        Ok(done)
    };
    let present = target.read(&session.client).await?;
    if tell(&present)? || !watch {
        return Ok(());
    }
    let decide = |object: Option<&Value>| match object {
        Some(object) => tell(object),
        None => usage("object has been deleted"),
    };
    let limit = (!timeout.is_zero()).then_some(timeout);
    if api::wait_until(&session.client, target, limit, decide).await? {
        return Ok(());
    }
    usage("timed out waiting for the condition")
}

/// A revision's number and its replica set.
async fn revisions(target: &Target, session: &mut Session) -> Result<(Value, Vec<(i64, Value)>)> {
    if target.resource.kind != "Deployment" {
        return usage(format!("no history viewer has been implemented for \"{}\"", target.resource.kind));
    }
    let deployment = target.read(&session.client).await?;
    let sets = session.discovery().await?.find("replicasets.apps")?.path(Some(&target.namespace), None);
    let list = api::get(&session.client, Call::get(sets)).await?;
    let owned = |set: &&Value| {
        let owners = set["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == deployment["metadata"]["uid"]))
    };
    let number = |set: &Value| set["metadata"]["annotations"][REVISION].as_str()?.parse::<i64>().ok();
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let mut found: Vec<(i64, Value)> =
        items.iter().filter(owned).filter_map(|set| Some((number(set)?, set.clone()))).collect();
    found.sort_by_key(|(number, _)| *number);
    Ok((deployment, found))
}

async fn history(target: &Target, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let (_, revisions) = revisions(target, session).await?;
    let mut text = String::from("REVISION\tCHANGE-CAUSE\n");
    for (number, set) in revisions {
        let cause = set["metadata"]["annotations"]["kubernetes.io/change-cause"].as_str().unwrap_or("<none>");
        text.push_str(&format!("{number}\t{cause}\n"));
    }
    let table = columns::align(&text, columns::DESCRIPTION);
    Ok(writeln!(streams.out, "{} \n{table}", target.title())?)
}

async fn undo(target: &Target, to: i64, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let (deployment, revisions) = revisions(target, session).await?;
    if deployment["spec"]["paused"] == true {
        return usage(format!(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume deployment/{}' and try again",
            target.name
        ));
    }
    let mut template = previous(&revisions, to)?;
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if template["spec"] == deployment["spec"]["template"]["spec"]
        && template["metadata"]["labels"] == deployment["spec"]["template"]["metadata"]["labels"]
        && template["metadata"]["annotations"] == deployment["spec"]["template"]["metadata"]["annotations"]
    {
        let message = format!("skipped rollback (current template already matches revision {to})");
        return Ok(writeln!(streams.out, "{} {message}", target.title())?);
    }
    let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
    api::get(&session.client, Call::patch(target.path(), "application/json-patch+json", &patch)).await?;
    Ok(writeln!(streams.out, "{} rolled back", target.title())?)
}

/// The pod template of a revision, or of the one before the last.
fn previous(revisions: &[(i64, Value)], to: i64) -> Result<Value> {
    let found = match to {
        0 => revisions.iter().rev().nth(1),
        _ => revisions.iter().find(|(number, _)| *number == to),
    };
    match found {
        Some((_, set)) => Ok(set["spec"]["template"].clone()),
        None if to == 0 => usage("no rollout history found for deployment"),
        None => usage(format!("unable to find specified revision {to} in history")),
    }
}

async fn restart(target: &Target, session: &Session, streams: &mut Streams) -> Result<()> {
    if !matches!(target.resource.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
        return usage(format!("{} restarting is not supported", target.title()));
    }
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())
        .map_err(|error| Error::Usage(error.to_string()))?;
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": now.to_string()});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let call = Call::patch(target.path(), "application/strategic-merge-patch+json", &patch)
        .query("fieldManager", "kubectl-rollout");
    api::get(&session.client, call).await?;
    Ok(writeln!(streams.out, "{} restarted", target.title())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_goes_to_the_revision_before_the_last_or_the_one_named() {
        let set = |n: i64| (n, json!({"spec": {"template": n}}));
        let revisions = [set(1), set(4), set(6)];
        assert_eq!(previous(&revisions, 0).unwrap(), 4);
        assert_eq!(previous(&revisions, 1).unwrap(), 1);
        assert!(previous(&revisions, 2).is_err());
        assert!(previous(&revisions[..1], 0).is_err());
    }
}
