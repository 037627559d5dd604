//! `attach`: the streams of a container's own process.

use clap::Args;
use jiff::SignedDuration;

use super::processes::{Remote, Wanted, carry};
use super::{exec, pods};
use crate::error::{Result, usage};
use crate::fields::{self, Fields};
use crate::flags::{duration, limit};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// POD or TYPE/NAME
    arguments: Vec<String>,
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
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let argument = match options.arguments.as_slice() {
        [argument] => argument.clone(),
        [kind, name] => format!("{kind}/{name}"),
        [] => return usage("at least 1 argument is required for attach"),
        more => {
            return usage(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {}: [{}]",
                more.len(),
                more.join(" ")
            ));
        }
    };
    let target = pods::target(session, &argument).await?;
    let object = target.read(&session.client).await?;
    let patience = limit(options.pod_running_timeout).unwrap_or_default();
    let pod = pods::attachable(session, &object, patience).await?;
    pods::need_running(&pod, "attach")?;
    let name = fields::name(&pod);
    let container = match options.container.as_str() {
        "" => pods::default_container(&pod, options.quiet, &mut streams.err)?,
        named => match pods::container(&pod, named) {
            Some(container) => container,
            None => return usage(format!("cannot attach to the container: container {named} not found in pod {name}")),
        },
    };
    if options.tty && !container.flag("tty") && !options.quiet {
        let container = container.text("name");
        writeln!(streams.err, "error: Unable to use a TTY - container {container} did not allocate one")?;
    }
    // A container with a terminal has no other streams, whether or not we have one.
    let tty = container.flag("tty");
    let (terminal, ours) = exec::terminal(options.stdin, tty, options.quiet, streams)?;
    let wanted = Wanted {
        namespace: fields::namespace(&pod).to_owned(),
        pod: name.to_owned(),
        container: container.text("name").to_owned(),
        command: None,
        stdin: options.stdin,
        tty,
    };
    if !options.quiet {
        writeln!(streams.err, "If you don't see a command prompt, try pressing enter.")?;
    }
    let remote = Remote::open(&session.client, &wanted).await?;
    let raw = terminal.map(|terminal| terminal.raw()).transpose()?;
    let resumable = raw.is_some() && ours && options.stdin && pod.text("spec.restartPolicy") == "Always";
    carry(remote, streams).await?;
    drop(raw);
    if resumable && !options.quiet {
        let container = container.text("name");
        writeln!(
            streams.out,
            "Session ended, resume using 'kubectl attach {name} -c {container} -i -t' command when the pod is running"
        )?;
    }
    Ok(())
}
