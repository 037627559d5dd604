//! The `kube-apiserver` binary: parse, validate, run, exit code.

use std::process::ExitCode;

use apiserver::options::Options;
use clap::Parser;

/// Lists are many small buffers that live for the time of one write: this allocator gives them back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    options.logging.init();
    match apiserver::run_blocking(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kube-apiserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}
