//! The `kubectl` binary: parse, validate, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(kubectl::main(std::env::args_os(), kubectl::streams::Streams::process()));
    // A read of standard input that still blocks must not hold the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}
