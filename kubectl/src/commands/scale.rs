//! `scale`: the number of replicas, through the scale subresource.

use clap::Args;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::{self, Call};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::flags::{duration, limit, whole};
use crate::options::{Changing, DryRun, Selection};
use crate::printers::output::{Format, Printer};
use crate::resources::{self, Found, Unnamed};
use crate::session::Session;
use crate::streams::Streams;
use crate::wait;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    changing: Changing,
    /// The wanted number of replicas
    #[arg(long, value_parser = whole)]
    replicas: Option<i64>,
    /// Only when this is the number of replicas now
    #[arg(long, value_parser = whole, default_value_t = -1)]
    current_replicas: i64,
    /// Only when this is the object's version
    #[arg(long, default_value = "", hide_default_value = true)]
    resource_version: String,
    /// All objects of the types in the namespace
    #[arg(long)]
    all: bool,
    /// How long to wait for the replicas; 0 does not wait
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: SignedDuration,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let Some(replicas) = options.replicas else {
        return usage("required flag(s) \"replicas\" not set");
    };
    if replicas < 0 {
        return usage("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0");
    }
    let mut printer = Format::of_objects(&options.changing.output, &options.changing.template)?
        .map(|format| Printer::new(format, options.changing.show_managed_fields));
    let unnamed = if options.all { Unnamed::All } else { Unnamed::Error };
    let queries = resources::queries(session, &options.selection, unnamed, streams).await?;
    let (found, mut failed) = resources::visit(&session.client, &queries, &options.selection).await;
    if found.is_empty() {
        return match Error::of(failed) {
            Ok(()) => usage("no objects passed to scale"),
            Err(error) => usage(format!("no objects passed to scale {error}")),
        };
    }
    for found in found {
        match one(&options, replicas, &found, session).await {
            Ok(()) => match &mut printer {
                Some(printer) => {
                    let now = found.target.read(&session.client).await?;
                    write!(streams.out, "{}", printer.print(now)?)?;
                }
                None => writeln!(streams.out, "{} scaled{}", found.target.title(), options.changing.dry_run.suffix())?,
            },
            Err(error) => failed.push(error),
        }
    }
    Error::of(failed)
}

async fn one(options: &Options, replicas: i64, found: &Found, session: &Session) -> Result<()> {
    let target = &found.target;
    if options.changing.dry_run == DryRun::Client {
        return Ok(());
    }
    let path = format!("{}/scale", target.path());
    let version = options.resource_version.as_str();
    if options.current_replicas >= 0 || !version.is_empty() {
        let scale = session.client.json(&Call::get(&path)).await?;
        let now = scale.int("spec.replicas");
        if options.current_replicas >= 0 && now != options.current_replicas {
            return usage(format!("Expected replicas to be {}, was {now}", options.current_replicas));
        }
        if !version.is_empty() && scale.text("metadata.resourceVersion") != version {
            let now = scale.text("metadata.resourceVersion");
            return usage(format!("Expected resource version to be {version}, was {now}"));
        }
    }
    let patch = json!({"spec": {"replicas": replicas}});
    let call = Call::patch(path, api::MERGE_PATCH, &patch).query("dryRun", options.changing.dry_run.query());
    session.client.json(&call).await?;
    if options.changing.dry_run == DryRun::None && !options.timeout.is_zero() {
        let there = |object: Option<&Value>| match object {
            Some(object) => Ok(has_replicas(object, replicas)),
            None => usage(format!("{} was deleted", target.title())),
        };
        if !wait::until(&session.client, target, limit(options.timeout), there).await? {
            return usage(format!("timed out waiting for {} to have {replicas} replicas", target.title()));
        }
    }
    Ok(())
}

/// Whether an object has as many replicas as are wanted, as far as its controller knows of the wish.
fn has_replicas(object: &Value, replicas: i64) -> bool {
    object.int("status.observedGeneration") >= object.int("metadata.generation")
        && object.int("spec.replicas") == replicas
        && object.int("status.replicas") == replicas
}
