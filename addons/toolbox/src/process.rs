//! What a container does without a network: exit, print, sleep, and `pause`, which holds a pod's namespaces.

use std::{io::Write, path::PathBuf, time::Duration};

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::stop;

#[derive(clap::Args)]
pub struct ExitOptions {
    #[arg(default_value_t = 0)]
    code: i32,
    /// Seconds to wait before
    #[arg(long, default_value_t = 0.0)]
    after: f64,
    /// A line to print first
    #[arg(long)]
    say: Option<String>,
}

pub async fn exit(options: ExitOptions) -> i32 {
    if let Some(line) = &options.say {
        println!("{line}");
    }
    tokio::time::sleep(Duration::from_secs_f64(options.after)).await;
    options.code
}

#[derive(clap::Args)]
pub struct FilesOptions {
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

pub fn files(options: &FilesOptions) -> anyhow::Result<i32> {
    for path in &options.paths {
        std::io::stdout().write_all(&std::fs::read(path)?)?;
    }
    Ok(0)
}

#[derive(clap::Args)]
pub struct EnvOptions {
    names: Vec<String>,
}

/// Exit code 1 when a variable that was asked for is not set.
pub fn env(options: &EnvOptions) -> anyhow::Result<i32> {
    let mut out = std::io::stdout();
    if options.names.is_empty() {
        for (name, value) in std::env::vars_os() {
            writeln!(out, "{}={}", name.to_string_lossy(), value.to_string_lossy())?;
        }
    }
    let mut code = 0;
    for name in &options.names {
        match std::env::var_os(name) {
            Some(value) => writeln!(out, "{name}={}", value.to_string_lossy())?,
            None => code = 1,
        }
    }
    Ok(code)
}

#[derive(clap::Args)]
pub struct SleepOptions {
    /// Seconds
    seconds: f64,
    /// Take no notice of SIGTERM
    #[arg(long)]
    stubborn: bool,
}

pub async fn sleep(options: SleepOptions) -> anyhow::Result<i32> {
    let end = tokio::time::sleep(Duration::from_secs_f64(options.seconds));
    if options.stubborn {
        let _ignored = signal(SignalKind::terminate())?;
        end.await;
        return Ok(0);
    }
    tokio::select! {
        () = end => {}
        stopped = stop::requested() => stopped?,
    }
    Ok(0)
}

/// As pid 1 of a pod with a shared process namespace it inherits orphans: they are reaped.
pub async fn pause() -> anyhow::Result<i32> {
    let mut children = signal(SignalKind::child())?;
    let stop = stop::requested();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            stopped = &mut stop => { stopped?; return Ok(0) }
            _ = children.recv() => reap()?,
        }
    }
}

fn reap() -> nix::Result<()> {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid().is_some() => {}
            Ok(_) | Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
