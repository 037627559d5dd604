//! kubectl: the command line. Each command is completed from its flags, validated, and run over given streams and a session.

pub mod api;
pub mod commands;
pub mod describe;
pub mod discovery;
pub mod error;
pub mod fields;
pub mod flags;
pub mod interrupt;
pub mod kubeconfig;
pub mod manifests;
pub mod options;
pub mod printers;
pub mod resources;
pub mod session;
pub mod streams;
pub mod terminal;
pub mod wait;
pub mod warnings;

use std::ffi::OsString;
use std::io::Write;

use crate::error::Error;
use crate::flags::Parsed;
use crate::streams::Streams;
use crate::warnings::Warnings;

/// Runs one command line, prints its error, and tells the exit code.
pub async fn main(args: impl IntoIterator<Item = OsString>, mut streams: Streams) -> u8 {
    component_base::client::install_crypto_provider();
    let ended = run(args.into_iter().collect(), &mut streams).await;
    let flushed = streams.out.flush().map_err(Error::from);
    match ended.and(flushed) {
        Ok(()) => 0,
        Err(Error::Exit(code)) => code,
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => match writeln!(streams.err, "{}", error.report()) {
            Ok(()) | Err(_) => 1,
        },
    }
}

async fn run(args: Vec<OsString>, streams: &mut Streams) -> Result<(), Error> {
    let cli = match flags::parse(args) {
        Ok(cli) => cli,
        Err(Parsed::Help(text)) => return Ok(write!(streams.out, "{text}")?),
        Err(Parsed::Wrong(error)) => return Err(error),
    };
    let (strict, warnings) = (cli.globals.warnings_as_errors, Warnings::new(streams.err.clone()));
    commands::run(cli, streams, warnings.clone()).await?;
    match warnings.count() {
        count if strict && count > 0 => {
            let plural = if count == 1 { "" } else { "s" };
            Err(Error::Usage(format!("{count} warning{plural} received")))
        }
        _ => Ok(()),
    }
}
