//! `create -f`: objects that must not exist yet.

use clap::Args;

use crate::api::{self, Call};
use crate::error::Result;
use crate::manifests;
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// Files or directories with the objects, or - for standard input
    #[arg(long, short, value_delimiter = ',', required = true)]
    filename: Vec<String>,
    /// Process the directories of -f with all that is below them
    #[arg(long, short = 'R')]
    recursive: bool,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    for manifest in manifests::read(&options.filename, options.recursive)? {
        let target = super::locate(session, &manifest).await?;
        let call = Call::post(target.resource.path(Some(&target.namespace), None), &manifest.object)
            .query("fieldManager", "kubectl-create")
            .query("fieldValidation", "Strict");
        let made = api::get(&session.client, call)
            .await
            .map_err(|error| error.while_doing(format!("error when creating \"{}\"", manifest.source)))?;
        let name = made["metadata"]["name"].as_str().unwrap_or_default();
        writeln!(streams.out, "{}/{name} created", target.resource.singular_with_group())?;
    }
    Ok(())
}
