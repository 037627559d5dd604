//! The `pod-network` binary: parse, validate, run, exit code.

use clap::Parser;
use component_base::{client, shutdown, version};
use pod_network::{options::Options, service};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.version {
        println!("{}", version::line());
        return ExitCode::SUCCESS;
    }
    options.logging.init();
    client::install_crypto_provider();
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> anyhow::Result<()> {
    // One thread is enough for a list of Nodes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if options.cleanup {
            return Ok(service::cleanup(options).await?);
        }
        Ok(service::run(options, shutdown::on_signals()?).await?)
    })
}
