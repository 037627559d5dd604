//! `api-versions`: the groups and versions that the server has.

use clap::Args;

use crate::discovery::group_version;
use crate::error::{Result, wrong_call};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[arg(hide = true)]
    arguments: Vec<String>,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    if !options.arguments.is_empty() {
        return wrong_call("kubectl api-versions", format!("unexpected arguments: [{}]", options.arguments.join(" ")));
    }
    let discovery = session.refresh().await?;
    let mut versions: Vec<String> =
        discovery.group_versions().map(|(group, version, _)| group_version(group, version)).collect();
    versions.sort();
    for version in versions {
        writeln!(streams.out, "{version}")?;
    }
    Ok(())
}
