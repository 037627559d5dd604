//! The `kube-proxy` binary: parse, validate, run, exit code.

use anyhow::Context;
use clap::Parser;
use component_base::{client, shutdown, version};
use kube_proxy::options::{self, Options};
use kube_proxy::{service, sysctl};
use std::process::ExitCode;

/// The proxy waits more than it computes.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(message) = options::unsupported(arguments.iter().map(String::as_str)) {
        eprintln!("error: {message}");
        return ExitCode::from(2);
    }
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        if options.cleanup {
            return service::cleanup().await.context("the rules could not be removed");
        }
        let settings = options.settings()?;
        if options.init_only {
            sysctl::apply(&sysctl::settings(&settings.conntrack, service::cores()));
            return Ok(());
        }
        service::run(settings, options.master.as_deref(), shutdown::on_signals()?).await?;
        Ok(())
    })
}
