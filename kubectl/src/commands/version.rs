//! `version`: ours and the server's.

use clap::Args;
use serde_json::json;

use crate::api::{self, Call};
use crate::error::Result;
use crate::options::Globals;
use crate::printers::tree;
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// Only the client's version
    #[arg(long)]
    client: bool,
    /// yaml or json
    #[arg(long, short, value_parser = ["yaml", "json"])]
    output: Option<String>,
}

pub async fn run(options: &Options, globals: &Globals, streams: &mut Streams) -> Result<()> {
    let ours = component_base::version::GIT_VERSION;
    let mut versions = json!({"clientVersion": {
        "major": component_base::version::MAJOR, "minor": component_base::version::MINOR, "gitVersion": ours,
        "platform": component_base::version::platform(), "compiler": "rustc"}});
    if options.output.is_none() {
        writeln!(streams.out, "Client Version: {ours}")?;
    }
    if !options.client {
        let session = Session::open(globals).await?;
        let server = api::get(&session.client, Call::get("/version")).await?;
        if options.output.is_none() {
            writeln!(streams.out, "Server Version: {}", server["gitVersion"].as_str().unwrap_or_default())?;
        }
        versions["serverVersion"] = server;
    }
    match options.output.as_deref() {
        Some("json") => write!(streams.out, "{}", tree::json(&tree::sorted(&versions)).replace("    ", "  "))?,
        Some(_) => write!(streams.out, "{}", tree::yaml(&tree::sorted(&versions)))?,
        None => {}
    }
    Ok(())
}
