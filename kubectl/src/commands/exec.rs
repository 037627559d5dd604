//! `exec`: a command in a container, with its streams, its terminal and its exit code.

use clap::Args;
use jiff::SignedDuration;

use super::pods;
use super::processes::{Remote, Wanted, carry};
use crate::error::{Error, Result, usage, wrong_call};
use crate::fields;
use crate::flags::{duration, limit};
use crate::options::Files;
use crate::resources;
use crate::session::Session;
use crate::streams::Streams;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub struct Options {
    /// POD or TYPE/NAME
    arguments: Vec<String>,
    /// The command and its arguments, after --
    #[arg(last = true)]
    command: Vec<String>,
    /// The container
    #[arg(long, short, default_value = "", hide_default_value = true)]
    container: String,
    /// Pass stdin to the container
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Stdin is a TTY
    #[arg(long, short)]
    tty: bool,
    /// Only print output from the remote session
    #[arg(long, short)]
    quiet: bool,
    /// How long to wait for a pod
    #[arg(long, value_parser = duration, default_value = "1m")]
    pod_running_timeout: SignedDuration,
    #[command(flatten)]
    files: Files,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    validate(&options)?;
    let target = match options.arguments.first() {
        Some(argument) => pods::target(session, argument).await?,
        None => {
            let mut found = resources::in_files(session, (&options.files, false), "", streams).await?.found;
            match found.pop() {
                Some(only) if found.is_empty() => only.target,
                Some(_) => return usage("cannot exec into multiple objects at a time"),
                None => return usage("no objects passed"),
            }
        }
    };
    let object = target.read(&session.client).await?;
    let patience = limit(options.pod_running_timeout).unwrap_or_default();
    let pod = pods::attachable(session, &object, patience).await?;
    pods::need_running(&pod, "exec into")?;
    let container = match options.container.as_str() {
        "" => pods::default_container(&pod, options.quiet, &mut streams.err)?["name"].as_str().unwrap_or_default(),
        named => named,
    };
    let (terminal, tty) = terminal(options.stdin, options.tty, options.quiet, streams)?;
    let wanted = Wanted {
        namespace: fields::namespace(&pod).to_owned(),
        pod: fields::name(&pod).to_owned(),
        container: container.to_owned(),
        command: Some(options.command),
        stdin: options.stdin,
        tty,
    };
    let remote = Remote::open(&session.client, &wanted).await?;
    let raw = terminal.map(|terminal| terminal.raw()).transpose()?;
    let ended = carry(remote, streams).await;
    drop(raw);
    if let Err(error @ Error::Exit(_)) = &ended {
        writeln!(streams.err, "{error}")?;
    }
    ended
}

fn validate(options: &Options) -> Result<()> {
    if options.arguments.is_empty() && options.files.is_empty() {
        return usage("pod, type/name or --filename must be specified");
    }
    if options.arguments.len() > 1 && options.command.is_empty() {
        return wrong_call(
            "kubectl exec",
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead",
        );
    }
    if options.command.is_empty() {
        return usage("you must specify at least one command for the container");
    }
    Ok(())
}

/// The terminal to make raw, and whether the process gets one, which it only does when our input is one.
///
/// # Errors
/// When the stream of errors cannot be written.
pub fn terminal(
    stdin: bool,
    tty: bool,
    quiet: bool,
    streams: &mut Streams,
) -> Result<(Option<std::sync::Arc<dyn Terminal>>, bool)> {
    if !tty {
        return Ok((None, false));
    }
    if !stdin {
        return Ok((None, true));
    }
    match &streams.terminal {
        Some(terminal) => Ok((Some(terminal.clone()), true)),
        None => {
            if !quiet {
                writeln!(streams.err, "Unable to use a TTY - input is not a terminal or the right kind of file")?;
            }
            Ok((None, false))
        }
    }
}
