//! `describe`: objects in words, with what belongs to them.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::Call;
use crate::describe;
use crate::error::{Error, Result, usage};
use crate::fields;
use crate::options::Selection;
use crate::resources::{self, Query, Unnamed};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Display events related to the described object
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = clap::builder::ValueParser::new(crate::flags::truth), action = clap::ArgAction::Set)]
    show_events: bool,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let selection = &options.selection;
    if selection.arguments.is_empty() && selection.files.is_empty() {
        return usage(
            "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.",
        );
    }
    let queries = resources::queries(session, selection, Unnamed::All, streams).await?;
    let (found, mut failed) = resources::visit(&session.client, &queries, selection).await;
    if let [kind, prefix] = selection.arguments.as_slice()
        && failed.iter().any(Error::is_not_found)
    {
        return match queries.as_slice() {
            [query] if !kind.contains('/') => {
                let error = failed.remove(0);
                matching(&options, query, prefix, error, session, streams).await
            }
            _ => Error::all(failed),
        };
    }
    let mut first = true;
    for object in found.iter().map(|found| &found.object) {
        match one(&options, object, session).await {
            Ok(text) => {
                write!(streams.out, "{}{text}", if first { "" } else { "\n\n" })?;
                first = false;
            }
            Err(error) => failed.push(error),
        }
    }
    if found.is_empty() && failed.is_empty() {
        if selection.all_namespaces {
            writeln!(streams.err, "No resources found")?;
        } else {
            writeln!(streams.err, "No resources found in {} namespace.", session.namespace)?;
        }
    }
    Error::all(failed)
}

async fn one(options: &Options, object: &Value, session: &Session) -> Result<String> {
    let chunk = options.selection.chunk_size;
    describe::describe(&session.client, object, options.show_events, chunk, Timestamp::now()).await
}

/// Objects whose names begin with what was given, where none has it as its name.
async fn matching(
    options: &Options,
    query: &Query,
    prefix: &str,
    missing: Error,
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let call = Call::get(query.resource.path(Some(&query.namespace), None));
    let mut objects = session.client.list(&call, options.selection.chunk_size).await?;
    objects.retain(|object| fields::name(object).starts_with(prefix));
    for object in &mut objects {
        object["apiVersion"] = query.resource.api_version().into();
        object["kind"] = query.resource.kind.clone().into();
        writeln!(streams.out, "{}", one(options, object, session).await?)?;
    }
    if !objects.is_empty() {
        return Ok(());
    }
    Error::all(vec![missing])
}
