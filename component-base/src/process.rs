//! What the `main` of every component does: refuse what is not supported, parse the flags, log, run until a signal comes, exit code.

use std::process::ExitCode;

use crate::options::{UNSUPPORTED, check_supported};
use crate::runner::chain;
use crate::shutdown::{self, Shutdown};
use crate::{client, logging};

/// Threads for async work at most: components wait most of the time.
const MAX_WORKER_THREADS: usize = 2;

/// The options of a component.
pub trait Options: clap::Parser {
    /// Flags of upstream's component that ours does not have, beside those that none of ours has.
    const UNSUPPORTED: &'static [&'static str];

    /// How to log.
    fn logging(&self) -> &logging::Options;
}

/// Runs a component: exit code 2 for flags that are wrong, 1 for a failure, which is logged.
pub fn main<O, E, R>(name: &str, run: impl FnOnce(O, Shutdown) -> R) -> ExitCode
where
    O: Options,
    E: std::error::Error + 'static,
    R: Future<Output = Result<(), E>>,
{
    let unsupported = [UNSUPPORTED, O::UNSUPPORTED].concat();
    if let Err(error) = check_supported(std::env::args(), &unsupported) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let options = O::parse();
    options.logging().init();
    client::install_crypto_provider();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let started = builder.worker_threads(cores.min(MAX_WORKER_THREADS)).enable_all().build().and_then(|runtime| {
        let entered = runtime.enter();
        let shutdown = shutdown::on_signals()?;
        drop(entered);
        Ok((runtime, shutdown))
    });
    let (runtime, shutdown) = match started {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(%error, "{name} cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(options, shutdown)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(&error), "{name} ends");
            ExitCode::FAILURE
        }
    }
}
