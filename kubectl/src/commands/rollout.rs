//! `rollout`: watch, list, undo, restart, pause and resume the roll-outs of deployments, daemon sets and stateful sets.

mod history;
mod progress;
mod undo;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::{self, Call};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::flags::{duration, limit, truth, whole};
use crate::options::{DryRun, Selection};
use crate::printers::output::{Format, Printer};
use crate::resources::{self, Found, Target, Unnamed};
use crate::session::Session;
use crate::streams::Streams;
use crate::wait;
use progress::{Progress, progress};

const REVISION: &str = "deployment.kubernetes.io/revision";
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

/// How a change is shown.
#[derive(Debug, Args)]
struct Shown {
    /// json, yaml, name or a jsonpath: the object as it is then
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// Template to use with -o
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
    /// Keep metadata.managedFields
    #[arg(long)]
    show_managed_fields: bool,
    /// The manager of the fields
    #[arg(long, default_value = "kubectl-rollout")]
    field_manager: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// View rollout history
    History {
        #[command(flatten)]
        selection: Selection,
        /// The details of one revision
        #[arg(long, value_parser = whole, default_value_t = 0)]
        revision: i64,
        #[command(flatten)]
        shown: Shown,
    },
    /// Mark the provided resource as paused
    Pause {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Restart a resource
    Restart {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Resume a paused resource
    Resume {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show the status of the rollout
    Status {
        #[command(flatten)]
        selection: Selection,
        /// Watch until it is done
        #[arg(long, short, default_value = "true", num_args = 0..=1, default_missing_value = "true",
            action = clap::ArgAction::Set, require_equals = true, value_parser = clap::builder::ValueParser::new(truth))]
        watch: bool,
        /// The revision whose status is wanted; 0 is the latest
        #[arg(long, value_parser = whole, default_value_t = 0)]
        revision: i64,
        /// How long to watch; 0 is for ever
        #[arg(long, value_parser = duration, default_value = "0s")]
        timeout: SignedDuration,
    },
    /// Undo a previous rollout
    Undo {
        #[command(flatten)]
        selection: Selection,
        /// The revision to go back to; 0 is the previous one
        #[arg(long, value_parser = whole, default_value_t = 0)]
        to_revision: i64,
        /// none, client or server: whether anything is undone
        #[arg(long, default_value = "none", value_parser = DryRun::parse)]
        dry_run: DryRun,
    },
}

impl Command {
    fn selection(&self) -> &Selection {
        match self {
            Self::History { selection, .. }
            | Self::Pause { selection, .. }
            | Self::Restart { selection, .. }
            | Self::Resume { selection, .. }
            | Self::Status { selection, .. }
            | Self::Undo { selection, .. } => selection,
        }
    }
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let selection = options.command.selection();
    if selection.arguments.is_empty() && selection.files.is_empty() {
        return usage("required resource not specified");
    }
    let mut printer = match &options.command {
        Command::History { shown, .. }
        | Command::Pause { shown, .. }
        | Command::Resume { shown, .. }
        | Command::Restart { shown, .. } => Format::of_objects(&shown.output, &shown.template)?
            .map(|format| Printer::new(format, shown.show_managed_fields)),
        _ => None,
    };
    let queries = resources::queries(session, selection, Unnamed::All, streams).await?;
    let (found, mut failed) = resources::visit(&session.client, &queries, selection).await;
    for found in found {
        if let Err(error) = one(&options.command, &found, &mut printer, session, streams).await {
            failed.push(error);
        }
        streams.out.flush()?;
    }
    Error::of(failed)
}

async fn one(
    command: &Command,
    found: &Found,
    printer: &mut Option<Printer>,
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let (changed, verb) = match command {
        Command::Status { watch, revision, timeout, .. } => {
            return status(&found.target, *watch, *revision, *timeout, session, streams).await;
        }
        Command::History { revision, .. } => {
            let history = history::of(found, &session.client).await?;
            if let Some(printer) = printer {
                return Ok(write!(streams.out, "{}", history::whole(history, *revision, printer)?)?);
            }
            let text = history::print(&history, *revision)?;
            let of = if *revision > 0 { format!("with revision #{revision}") } else { String::new() };
            return Ok(writeln!(streams.out, "{} {of}\n{text}", found.target.title())?);
        }
        Command::Undo { to_revision, dry_run, .. } => {
            let what = undo::run(found, *to_revision, *dry_run, session).await?;
            return Ok(writeln!(streams.out, "{} {what}", found.target.title())?);
        }
        Command::Pause { shown, .. } => (pause(found, true, shown, session).await?, "paused"),
        Command::Resume { shown, .. } => (pause(found, false, shown, session).await?, "resumed"),
        Command::Restart { shown, .. } => (restart(found, shown, session).await?, "restarted"),
    };
    match printer {
        Some(printer) => write!(streams.out, "{}", printer.print(changed)?)?,
        None => writeln!(streams.out, "{} {verb}", found.target.title())?,
    }
    Ok(())
}

async fn status(
    target: &Target,
    watch: bool,
    revision: i64,
    timeout: SignedDuration,
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let kind = target.resource.group_kind();
    let kind = kind.as_str();
    let mut last = String::new();
    let mut tell = |object: &Value| -> Result<bool> {
        let Progress { message, done } = progress(kind, object, revision)?;
        if message != last {
            writeln!(streams.out, "{message}")?;
            streams.out.flush()?;
        }
        last = message;
        Ok(done || !watch)
    };
    let decide = |object: Option<&Value>| match object {
        Some(object) => tell(object),
        None => usage("object has been deleted"),
    };
    if wait::until(&session.client, target, limit(timeout), decide).await? {
        return Ok(());
    }
    usage("timed out waiting for the condition")
}

fn described(target: &Target) -> String {
    format!("{} {:?}", target.resource.plural_with_group(), target.name)
}

async fn patched(target: &Target, patch: &Value, shown: &Shown, session: &Session) -> Result<Value> {
    let call = Call::patch(target.path(), api::STRATEGIC_PATCH, patch).query("fieldManager", &shown.field_manager);
    session.client.json(&call).await
}

async fn pause(found: &Found, paused: bool, shown: &Shown, session: &Session) -> Result<Value> {
    let target = &found.target;
    let (doing, already) = if paused { ("pausing", "is already paused") } else { ("resuming", "is not paused") };
    if target.resource.kind != "Deployment" {
        return usage(format!("{} {doing} is not supported", described(target)));
    }
    if found.object.flag("spec.paused") == paused {
        return usage(format!("{} {already}", described(target)));
    }
    let patch = json!({"spec": {"paused": if paused { json!(true) } else { Value::Null }}});
    patched(target, &patch, shown, session).await
}

async fn restart(found: &Found, shown: &Shown, session: &Session) -> Result<Value> {
    let target = &found.target;
    if !matches!(target.resource.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
        return usage(format!("{} restarting is not supported", described(target)));
    }
    if found.object.flag("spec.paused") {
        return usage(format!("{} can't restart paused deployment (run rollout resume first)", described(target)));
    }
    let now = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    if found.object["spec"]["template"]["metadata"]["annotations"][RESTARTED] == now.as_str() {
        return usage(format!(
            "failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another",
            target.name
        ));
    }
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}});
    patched(target, &patch, shown, session).await
}
