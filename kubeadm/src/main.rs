//! The `kubeadm` binary: parse, validate, run, exit code.

use clap::Parser;
use kubeadm::{
    commands,
    init::Init,
    join,
    options::{Command, Options},
};

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    component_base::client::install_crypto_provider();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&options)));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let root = options.root();
    match &options.command {
        Command::Init(init) => Init::new(init.configuration()?, root, init.phases())?.run().await,
        Command::Join(join) => join::run(&join.configuration()?.join, &root).await,
        Command::Reset => commands::reset(&root),
        Command::Token(command) => commands::token(command, &root).await,
        Command::Config(command) => commands::print_configuration(command),
        Command::Certs(command) => commands::certificates(command, &root),
        Command::Kubeconfig(command) => commands::kubeconfig(command, &root),
    }
}
