//! kubectl: the command line. Each command is completed from its flags, validated, and run over given streams and a session.

pub mod api;
pub mod commands;
pub mod discovery;
pub mod error;
pub mod manifests;
pub mod options;
pub mod printers;
pub mod session;
pub mod streams;

use std::ffi::OsString;

use clap::Parser;

use crate::error::Error;
use crate::streams::Streams;

/// Runs one command line, prints its error, and tells the exit code.
pub async fn main(args: impl IntoIterator<Item = OsString>, mut streams: Streams) -> u8 {
    component_base::client::install_crypto_provider();
    let cli = match options::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            return if error.print().is_err() || failed { 1 } else { 0 };
        }
    };
    let result = commands::run(cli, &mut streams).await;
    let flushed = streams.out.flush().map_err(Error::from);
    match result.and(flushed) {
        Ok(()) => 0,
        Err(Error::Exit(code)) => code,
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => match writeln!(streams.err, "{error}") {
            Ok(()) | Err(_) => 1,
        },
    }
}
