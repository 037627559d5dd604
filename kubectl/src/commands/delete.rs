//! `delete`: objects by name, file or selector, waiting until they are gone.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::api::{self, Call, Target};
use crate::error::{Error, Result, usage};
use crate::options::{Selection, duration};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Delete all objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, require_equals = true)]
    wait: bool,
    /// How long to wait; 0 is for ever
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: Duration,
    /// Seconds that pods get to end
    #[arg(long)]
    grace_period: Option<i64>,
    /// Do not wait for the node that runs the pod
    #[arg(long)]
    force: bool,
    /// Succeed where there is nothing to delete
    #[arg(long)]
    ignore_not_found: bool,
    /// background, foreground or orphan
    #[arg(long, default_value = "background", value_parser = ["background", "foreground", "orphan"])]
    cascade: String,
    /// name: only type/name
    #[arg(long, short, value_parser = ["name"])]
    output: Option<String>,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let targets = super::targets(session, &options.selection, options.all).await?;
    if targets.is_empty() {
        writeln!(streams.out, "No resources found")?;
    }
    let body = body(&options);
    let (mut gone, mut failed) = (Vec::new(), None::<Error>);
    for target in targets {
        match api::get(&session.client, Call::delete(target.path(), &body)).await {
            Ok(answer) => {
                tell(&options, &target, streams)?;
                gone.push((target, uid(&answer)));
            }
            Err(error) if error.is_not_found() && options.ignore_not_found => {}
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    writeln!(streams.err, "{earlier}")?;
                }
            }
        }
    }
    streams.out.flush()?;
    if options.wait {
        for (target, uid) in gone {
            wait_gone(&options, &target, &uid, session).await?;
        }
    }
    failed.map_or(Ok(()), Err)
}

fn body(options: &Options) -> Value {
    let policy = match options.cascade.as_str() {
        "foreground" => "Foreground",
        "orphan" => "Orphan",
        _ => "Background",
    };
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
    if let Some(seconds) = options.grace_period.or(options.force.then_some(0)).filter(|seconds| *seconds >= 0) {
        body["gracePeriodSeconds"] = seconds.into();
    }
    body
}

fn tell(options: &Options, target: &Target, streams: &mut Streams) -> Result<()> {
    if options.output.is_some() {
        return Ok(writeln!(streams.out, "{}", target.title())?);
    }
    let how = if options.force { "force deleted" } else { "deleted" };
    let place =
        if target.resource.namespaced { format!(" from {} namespace", target.namespace) } else { String::new() };
    Ok(writeln!(streams.out, "{} \"{}\" {how}{place}", target.resource.singular_with_group(), target.name)?)
}

/// The deleted object's UID, which a Status has among its details.
fn uid(answer: &Value) -> String {
    let status = answer["details"]["uid"].as_str();
    status.or(answer["metadata"]["uid"].as_str()).unwrap_or_default().to_owned()
}

async fn wait_gone(options: &Options, target: &Target, uid: &str, session: &Session) -> Result<()> {
    let timeout = (!options.timeout.is_zero()).then_some(options.timeout);
    let gone = |object: Option<&Value>| Ok(object.is_none_or(|object| object["metadata"]["uid"] != uid));
    if api::wait_until(&session.client, target, timeout, gone).await? {
        return Ok(());
    }
    usage(format!("timed out waiting for the condition on {}/{}", target.resource.plural, target.name))
}
