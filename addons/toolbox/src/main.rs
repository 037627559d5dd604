//! The `toolbox` binary: parse, run, exit code.

use clap::{Parser, Subcommand};
use toolbox::{dns, echo, load, probe, process, serve};

#[derive(Parser)]
#[command(name = "toolbox", version, about = "Small network, process and load tools")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP: /, /hostname, /clientip, /echo, /env, /file, /slow, /healthz, /readyz, /fail, /recover, /exit
    Serve(serve::Options),
    /// Return what is sent, over TCP and UDP
    Echo(echo::Options),
    /// Look names up with a DNS server, over UDP
    Dns(dns::Options),
    /// Ask an URL again and again, and report every failure
    Probe(probe::Options),
    /// Keep processors busy
    Cpu(load::CpuOptions),
    /// Hold memory
    Memory(load::MemoryOptions),
    /// Exit with a code, after a while
    Exit(process::ExitOptions),
    /// Print files
    Files(process::FilesOptions),
    /// Print the environment, or some variables
    Env(process::EnvOptions),
    /// Sleep, ending at once on SIGTERM
    Sleep(process::SleepOptions),
    /// Do nothing until SIGTERM; reap orphans
    Pause,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = match options.command {
        Command::Serve(options) => runtime.block_on(serve::run(options))?,
        Command::Echo(options) => runtime.block_on(echo::run(options))?,
        Command::Dns(options) => runtime.block_on(dns::run(options))?,
        Command::Probe(options) => runtime.block_on(probe::run(options))?,
        Command::Cpu(options) => load::cpu(&options),
        Command::Memory(options) => runtime.block_on(load::memory(options))?,
        Command::Exit(options) => runtime.block_on(process::exit(options)),
        Command::Files(options) => process::files(&options)?,
        Command::Env(options) => process::env(&options)?,
        Command::Sleep(options) => runtime.block_on(process::sleep(options))?,
        Command::Pause => runtime.block_on(process::pause())?,
    };
    std::process::exit(code);
}
