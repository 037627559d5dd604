//! The `kube-controller-manager` binary: parse, validate, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use component_base::options::check_supported;
use component_base::runner::chain;
use component_base::{client, shutdown};
use controller_manager::options::{Options, UNSUPPORTED};
use controller_manager::service;

/// Threads for async work: the controllers wait most of the time.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    if let Err(error) = check_supported(std::env::args(), UNSUPPORTED) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let options = Options::parse();
    options.logging.init();
    client::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let outcome = runtime.map_err(service::Error::Runtime).and_then(|runtime| {
        runtime.block_on(async {
            let shutdown = shutdown::on_signals().map_err(service::Error::Runtime)?;
            service::run(options, shutdown).await
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(&error), "kube-controller-manager ends");
            ExitCode::FAILURE
        }
    }
}
