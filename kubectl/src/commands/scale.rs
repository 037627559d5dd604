//! `scale`: the number of replicas, through the scale subresource.

use clap::Args;
use serde_json::json;

use crate::api::{self, Call};
use crate::error::{Result, usage};
use crate::options::Selection;
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// The wanted number of replicas
    #[arg(long)]
    replicas: u32,
    /// Only when this is the number of replicas now
    #[arg(long)]
    current_replicas: Option<i64>,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    for target in super::targets(session, &options.selection, false).await? {
        let path = format!("{}/scale", target.path());
        if let Some(expected) = options.current_replicas {
            let scale = api::get(&session.client, Call::get(&path)).await?;
            let now = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            if now != expected {
                return usage(format!("Expected replicas to be {expected}, was {now}"));
            }
        }
        let patch = json!({"spec": {"replicas": options.replicas}});
        api::get(&session.client, Call::patch(path, "application/merge-patch+json", &patch)).await?;
        writeln!(streams.out, "{} scaled", target.title())?;
    }
    Ok(())
}
