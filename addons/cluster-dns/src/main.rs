//! The `cluster-dns` binary: parse, validate, run, exit code.

use clap::Parser;
use cluster_dns::{options::Options, service};
use component_base::{client, shutdown, version};
use std::process::ExitCode;

/// Answering takes microseconds: two threads serve a cluster.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.version {
        println!("{}", version::line());
        return ExitCode::SUCCESS;
    }
    options.logging.init();
    client::install_crypto_provider();
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async { Ok(service::run(options, shutdown::on_signals()?).await?) })
}
