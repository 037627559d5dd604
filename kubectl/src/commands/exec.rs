//! `exec`: a command in a container, with its streams and its exit code.

use std::io::Read;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{Error, Result, usage};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// POD or TYPE/NAME
    target: String,
    /// The command and its arguments, after --
    #[arg(last = true, required = true)]
    command: Vec<String>,
    /// The container
    #[arg(long, short)]
    container: Option<String>,
    /// Pass standard input to the container
    #[arg(long, short = 'i')]
    stdin: bool,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let pod = super::pod_of(session, &options.target).await?;
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let mut params = AttachParams::default().stdin(options.stdin).stdout(true).stderr(true).tty(false);
    if let Some(container) = options.container {
        params = params.container(container);
    }
    let mut process = pods.exec(&pod, options.command, &params).await?;
    if let Some(stdin) = process.stdin() {
        tokio::spawn(feed(stdin));
    }
    let status = process.take_status();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (out, err) = (&mut streams.out, &mut streams.err);
    futures::try_join!(copy(stdout, out), copy(stderr, err))?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    process.join().await.map_err(|error| Error::Usage(error.to_string()))?;
    finish(status, streams)
}

/// Passes standard input on; at its end the writer is dropped, which tells the container.
async fn feed(mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let (sender, mut chunks) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        let mut buffer = vec![0; 8 * 1024];
        loop {
            let length = std::io::stdin().read(&mut buffer)?;
            if length == 0 || sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return Ok(());
            }
        }
    });
    while let Some(chunk) = chunks.recv().await {
        to.write_all(&chunk).await?;
        to.flush().await?;
    }
    to.shutdown().await
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to: &mut Box<dyn std::io::Write + Send>) -> Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

/// The exit code of the command is ours.
fn finish(status: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>, streams: &mut Streams) -> Result<()> {
    let Some(status) = status.filter(|status| status.status.as_deref() != Some("Success")) else {
        return Ok(());
    };
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()?.parse::<u8>().ok()) {
        Some(code) => {
            writeln!(streams.err, "command terminated with exit code {code}")?;
            Err(Error::Exit(code))
        }
        None => usage(format!("Internal error occurred: {}", status.message.unwrap_or_default())),
    }
}
