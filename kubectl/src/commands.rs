//! The commands, one per file.

pub mod annotate;
pub mod api_resources;
pub mod api_versions;
pub mod apply;
pub mod attach;
pub mod config;
pub mod create;
pub mod delete;
pub mod describe;
pub mod exec;
pub mod explain;
pub mod get;
pub mod label;
pub mod logs;
pub mod port_forward;
pub mod rollout;
pub mod scale;
pub mod version;
pub mod wait;

mod marks;
mod pods;
mod processes;

use crate::error::Result;
use crate::interrupt;
use crate::options::{Cli, Command};
use crate::session::Session;
use crate::streams::Streams;
use crate::warnings::Warnings;

/// Runs the command that was given.
///
/// # Errors
/// What the user is to read.
pub async fn run(cli: Cli, streams: &mut Streams, warnings: Warnings) -> Result<()> {
    let globals = cli.globals;
    let command = match cli.command {
        Command::Config(options) => return config::run(&options, &globals, streams),
        Command::Version(options) => return version::run(&options, &globals, streams, warnings).await,
        other => other,
    };
    let mut session = Session::open(&globals, warnings).await?;
    let session = &mut session;
    match command {
        Command::Create(options) => create::run(options, session, streams).await,
        Command::Explain(options) => explain::run(options, session, streams).await,
        Command::Get(options) => get::run(options, session, streams).await,
        Command::Delete(options) => delete::run(options, session, streams).await,
        Command::Rollout(options) => rollout::run(options, session, streams).await,
        Command::Scale(options) => scale::run(options, session, streams).await,
        Command::Describe(options) => describe::run(options, session, streams).await,
        Command::Logs(options) => interrupt::until(logs::run(options, session, streams)).await,
        Command::Attach(options) => attach::run(options, session, streams).await,
        Command::Exec(options) => exec::run(options, session, streams).await,
        Command::PortForward(options) => interrupt::ends(port_forward::run(options, session, streams)).await,
        Command::Apply(options) => apply::run(options, session, streams).await,
        Command::Wait(options) => wait::run(options, session, streams).await,
        Command::Label(options) => label::run(options, session, streams).await,
        Command::Annotate(options) => annotate::run(options, session, streams).await,
        Command::ApiResources(options) => api_resources::run(options, session, streams).await,
        Command::ApiVersions(options) => api_versions::run(options, session, streams).await,
        Command::Config(_) | Command::Version(_) => Ok(()),
    }
}
