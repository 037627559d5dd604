//! `delete`: objects by name, file or selector, waiting until they are gone.

use clap::Args;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::Call;
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::flags::{duration, limit, whole};
use crate::options::{DryRun, Selection};
use crate::resources::{self, Query, Target, Unnamed};
use crate::session::Session;
use crate::streams::Streams;
use crate::wait;

const AT_ONCE: &str = "Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.";

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Delete all objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set,
        require_equals = true, value_parser = clap::builder::ValueParser::new(crate::flags::truth))]
    wait: bool,
    /// How long to wait; 0 is for ever
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: SignedDuration,
    /// Seconds that pods get to end
    #[arg(long, value_parser = whole, default_value_t = -1)]
    grace_period: i64,
    /// Let pods end at once, but wait for them
    #[arg(long)]
    now: bool,
    /// Do not wait for the node that runs the pod
    #[arg(long)]
    force: bool,
    /// Succeed where there is nothing to delete
    #[arg(long)]
    ignore_not_found: bool,
    /// background, foreground or orphan
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    cascade: String,
    /// none, client or server: whether anything is deleted
    #[arg(long, default_value = "none", value_parser = DryRun::parse)]
    dry_run: DryRun,
    /// name: only type/name
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// A path of the server to delete
    #[arg(long)]
    raw: Option<String>,
}

pub async fn run(mut options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    if let Some(path) = &options.raw {
        let answer = session.client.bytes(&Call::delete(path, &json!({}))).await?;
        return Ok(streams.out.write_all(&answer)?);
    }
    complete(&mut options, session)?;
    let targets = targets(&options, session, streams).await?;
    if targets.iter().any(|target| !target.resource.namespaced) && session.explicit_namespace {
        session.client.warn("deleting cluster-scoped resources, not scoped to the provided namespace")?;
    }
    if targets.is_empty() {
        writeln!(streams.out, "No resources found")?;
    }
    let (mut gone, mut failed) = (Vec::new(), Vec::new());
    for target in targets {
        match one(&options, &target, session).await {
            Ok(uid) => {
                tell(&options, &target, streams)?;
                gone.push((target, uid));
            }
            Err(error) if error.is_not_found() && options.ignore_not_found => {}
            Err(error) => failed.push(error.while_doing("deleting", &target.source)),
        }
    }
    streams.out.flush()?;
    Error::of(failed)?;
    if options.wait && options.dry_run == DryRun::None {
        all_gone(&options, &gone, session).await?;
    }
    Ok(())
}

fn complete(options: &mut Options, session: &Session) -> Result<()> {
    let selection = &options.selection;
    if selection.arguments.is_empty() && selection.files.is_empty() {
        let selecting = options.all || !selection.selector.is_empty();
        return usage(if selecting { resources::UNSELECTED } else { resources::NOTHING });
    }
    if options.all && !selection.selector.is_empty() {
        return usage("setting 'all' parameter but found a non empty selector. ");
    }
    if options.now && options.grace_period != -1 {
        return usage("--now and --grace-period cannot be specified together");
    }
    if options.force && options.grace_period > 0 {
        return usage("--force and --grace-period greater than 0 cannot be specified together");
    }
    if !matches!(options.cascade.as_str(), "background" | "foreground" | "orphan" | "true" | "false") {
        return usage(format!(
            "invalid cascade value ({}). Must be \"background\", \"foreground\", or \"orphan\"",
            options.cascade
        ));
    }
    if !matches!(options.output.as_str(), "" | "name") {
        return usage(format!("unexpected -o output mode: {}. We only support '-o name'", options.output));
    }
    if options.now {
        options.grace_period = 1;
    }
    if options.force && options.grace_period < 0 {
        options.grace_period = 0;
    }
    if options.grace_period == 0 && !options.force {
        // What is to be gone at once is still waited for, so the node must know of it.
        options.grace_period = 1;
    }
    if options.force {
        session.client.warn(AT_ONCE)?;
    }
    if options.all || !selection.selector.is_empty() || !selection.field_selector.is_empty() {
        options.ignore_not_found |= selection.files.is_empty() && options.selection.arguments.len() == 1;
    }
    Ok(())
}

/// The objects by name; those of types and selectors are asked for.
async fn targets(options: &Options, session: &mut Session, streams: &mut Streams) -> Result<Vec<Target>> {
    let unnamed = if options.all { Unnamed::All } else { Unnamed::Error };
    let queries = resources::queries(session, &options.selection, unnamed, streams).await?;
    let mut targets = Vec::new();
    for query in queries {
        match query {
            Query { resource, namespace, name: Some(name), source } => {
                targets.push(Target { resource, namespace, name, source });
            }
            query => {
                let (found, failed) = resources::visit(&session.client, &[query], &options.selection).await;
                Error::of(failed)?;
                targets.extend(found.into_iter().map(|found| found.target));
            }
        }
    }
    Ok(targets)
}

/// Deletes one object and gives its UID.
async fn one(options: &Options, target: &Target, session: &Session) -> Result<String> {
    if options.dry_run == DryRun::Client {
        return Ok(String::new());
    }
    let policy = match options.cascade.as_str() {
        "foreground" => "Foreground",
        "orphan" | "false" => "Orphan",
        _ => "Background",
    };
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
    if options.grace_period >= 0 {
        body["gracePeriodSeconds"] = options.grace_period.into();
    }
    let call = Call::delete(target.path(), &body).query("dryRun", options.dry_run.query());
    let answer = session.client.json(&call).await?;
    let status = answer.text("details.uid");
    Ok(if status.is_empty() { answer.text("metadata.uid") } else { status }.to_owned())
}

fn tell(options: &Options, target: &Target, streams: &mut Streams) -> Result<()> {
    if options.output == "name" {
        return Ok(writeln!(streams.out, "{}", target.title())?);
    }
    let how = if options.grace_period == 0 { "force deleted" } else { "deleted" };
    let place =
        if target.resource.namespaced { format!(" from {} namespace", target.namespace) } else { String::new() };
    let (kind, name, suffix) = (target.resource.kind_with_group(), &target.name, options.dry_run.suffix());
    Ok(writeln!(streams.out, "{kind} \"{name}\" {how}{suffix}{place}")?)
}

async fn all_gone(options: &Options, gone: &[(Target, String)], session: &Session) -> Result<()> {
    for (target, uid) in gone {
        let is_gone = |object: Option<&Value>| {
            Ok(object.is_none_or(|object| !uid.is_empty() && object.text("metadata.uid") != uid))
        };
        match wait::until(&session.client, target, limit(options.timeout), is_gone).await {
            Ok(true) => {}
            Ok(false) => {
                return usage(format!(
                    "timed out waiting for the condition on {}/{}",
                    target.resource.plural, target.name
                ));
            }
            // Who may delete need not be allowed to look.
            Err(error) if error.is_forbidden() || error.is_method_not_supported() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
