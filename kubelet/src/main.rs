//! The kubelet's process: options, logging, signals, exit code.

use component_base::{client, logging, shutdown};
use kubelet::{options::Options, service};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = Options::from_args();
    logging::init(options.verbosity);
    client::install_crypto_provider();
    let shutdown = match shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            eprintln!("error: signals cannot be handled: {error}");
            std::process::exit(1);
        }
    };
    if let Err(error) = service::run(options, shutdown).await {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        eprintln!("error: {text}");
        std::process::exit(1);
    }
}
