//! The streams of a process in a container, carried to and from ours. They may be any streams, so that tests need no container.

use std::io::{Read, Write};
use std::sync::Arc;

use futures::channel::mpsc::Sender;
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use kube::{Api, Error as KubeError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Call, Client};
use crate::error::{Error, Result, usage};
use crate::streams::Streams;
use crate::terminal::Terminal;

const BUFFER: usize = 64 * 1024;

/// A process in a container.
pub struct Remote {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub sizes: Option<Sender<TerminalSize>>,
    /// How it ended, once it has.
    pub ended: BoxFuture<'static, Result<Option<Status>>>,
}

/// What is wanted of a process.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// `None` attaches to the container's own process.
    pub command: Option<Vec<String>>,
    pub stdin: bool,
    pub tty: bool,
}

impl Remote {
    /// Starts a process, or attaches to the one that runs.
    ///
    /// # Errors
    /// What the server says when it refuses.
    pub async fn open(client: &Client, wanted: &Wanted) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client.kube.clone(), &wanted.namespace);
        let params = AttachParams {
            container: Some(wanted.container.clone()).filter(|name| !name.is_empty()),
            stdin: wanted.stdin,
            stdout: true,
            stderr: !wanted.tty,
            tty: wanted.tty,
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            max_stderr_buf_size: Some(BUFFER),
        };
        let opened = match &wanted.command {
            Some(command) => pods.exec(&wanted.pod, command, &params).await,
            None => pods.attach(&wanted.pod, &params).await,
        };
        match opened {
            Ok(process) => Ok(process.into()),
            Err(error) => Err(refused(client, wanted, error).await),
        }
    }
}

/// A refused upgrade says nothing but a number: the same request without one says why.
async fn refused(client: &Client, wanted: &Wanted, error: KubeError) -> Error {
    if !matches!(error, KubeError::UpgradeConnection(_)) {
        return client.stream_error(error);
    }
    let verb = if wanted.command.is_some() { "exec" } else { "attach" };
    let mut call = Call::get(format!("/api/v1/namespaces/{}/pods/{}/{verb}", wanted.namespace, wanted.pod))
        .accept("*/*")
        .query("container", &wanted.container)
        .query("stdout", "true")
        .query("tty", if wanted.tty { "true" } else { "" });
    for word in wanted.command.iter().flatten() {
        call = call.query("command", word);
    }
    match client.send(&call).await {
        Err(told) if !told.to_string().to_lowercase().contains("upgrade") => told,
        _ => Error::Usage(format!("unable to upgrade connection: {error}")),
    }
}

impl From<AttachedProcess> for Remote {
    fn from(mut process: AttachedProcess) -> Self {
        let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
        let (sizes, status) = (process.terminal_size(), process.take_status());
        let ended = async move {
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            process.join().await.map_err(|error| Error::Usage(error.to_string()))?;
            Ok(status)
        };
        Self {
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            stdout: stdout.map(|stdout| Box::new(stdout) as _),
            stderr: stderr.map(|stderr| Box::new(stderr) as _),
            sizes,
            ended: ended.boxed(),
        }
    }
}

/// Carries the streams until the process has ended. Its exit code becomes ours.
///
/// # Errors
/// Its exit code, where it is not 0, and what broke on the way.
pub async fn carry(remote: Remote, streams: &mut Streams) -> Result<()> {
    let Remote { stdin, stdout, stderr, sizes, ended } = remote;
    if let (Some(stdin), Some(input)) = (stdin, streams.input.take()) {
        // The end of our input is not the end of the process: nobody waits for this task.
        tokio::spawn(feed(input, stdin));
    }
    if let (Some(sizes), Some(terminal)) = (sizes, streams.terminal.clone()) {
        tokio::spawn(follow_size(terminal, sizes));
    }
    futures::try_join!(copy(stdout, &mut streams.out), copy(stderr, &mut streams.err))?;
    finish(ended.await?)
}

/// Passes input on; at its end the writer is shut, which tells the process.
async fn feed(mut input: Box<dyn Read + Send>, mut to: Box<dyn AsyncWrite + Send + Unpin>) -> std::io::Result<()> {
    let (sender, mut chunks) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = input.read(&mut buffer)?;
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

/// Tells the terminal's size, now and whenever it changes.
async fn follow_size(terminal: Arc<dyn Terminal>, mut sizes: Sender<TerminalSize>) -> std::io::Result<()> {
    let mut changed = signal(SignalKind::window_change())?;
    loop {
        if let Some(size) = terminal.size() {
            let size = TerminalSize { width: size.width, height: size.height };
            if sizes.send(size).await.is_err() {
                return Ok(());
            }
        }
        if changed.recv().await.is_none() {
            return Ok(());
        }
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to: &mut dyn Write) -> Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

/// The exit code in a status.
fn finish(status: Option<Status>) -> Result<()> {
    let Some(status) = status.filter(|status| status.status.as_deref() != Some("Success")) else {
        return Ok(());
    };
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()?.parse::<u8>().ok()) {
        Some(code) => Err(Error::Exit(code)),
        None => usage(status.message.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Mutex;

    use futures::StreamExt;
    use serde_json::json;

    use super::*;
    use crate::streams::Shared;
    use crate::terminal::Size;

    /// A writer whose text can be read afterwards.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Write::write(&mut *self.0.lock().unwrap(), bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn streams(input: &str, terminal: Option<Arc<dyn Terminal>>) -> (Streams, Kept, Kept) {
        let (out, err) = (Kept::default(), Kept::default());
        let input = Box::new(Cursor::new(input.to_owned().into_bytes()));
        let streams =
            Streams { input: Some(input), out: Box::new(out.clone()), err: Shared::new(err.clone()), terminal };
        (streams, out, err)
    }

    fn exit(code: &str) -> Status {
        let status = json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": code}]}});
        serde_json::from_value(status).unwrap()
    }

    #[tokio::test]
    async fn streams_are_carried_and_the_exit_code_is_ours() {
        let (stdin, mut typed) = tokio::io::duplex(8);
        let (stdout, mut says) = tokio::io::duplex(8);
        let (stderr, mut complains) = tokio::io::duplex(8);
        let (end, ended) = futures::channel::oneshot::channel();
        // A process that echoes its input and complains about its length.
        let process = tokio::spawn(async move {
            let mut input = String::new();
            typed.read_to_string(&mut input).await.unwrap();
            says.write_all(input.as_bytes()).await.unwrap();
            complains.write_all(format!("{} bytes", input.len()).as_bytes()).await.unwrap();
            end.send(exit("3")).unwrap();
        });
        let remote = Remote {
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: Some(Box::new(stderr)),
            sizes: None,
            ended: async move { Ok(ended.await.ok()) }.boxed(),
        };
        let (mut streams, out, err) = streams("a text longer than the pipe", None);
        let result = carry(remote, &mut streams).await;
        process.await.unwrap();
        assert!(matches!(result, Err(Error::Exit(3))), "{result:?}");
        assert_eq!((out.text().as_str(), err.text().as_str()), ("a text longer than the pipe", "27 bytes"));
    }

    struct Fixed;

    impl Terminal for Fixed {
        fn raw(&self) -> std::io::Result<Box<dyn Send>> {
            Ok(Box::new(()))
        }

        fn size(&self) -> Option<Size> {
            Some(Size { width: 80, height: 24 })
        }
    }

    #[tokio::test]
    async fn the_terminals_size_is_told_at_once() {
        let (sizes, mut told) = futures::channel::mpsc::channel::<TerminalSize>(1);
        let (stdout, says) = tokio::io::duplex(8);
        let ended = async move {
            let size = told.next().await.map(|size| (size.width, size.height));
            assert_eq!(size, Some((80, 24)));
            Ok(None)
        };
        let remote = Remote {
            stdin: None,
            stdout: Some(Box::new(stdout)),
            stderr: None,
            sizes: Some(sizes),
            ended: ended.boxed(),
        };
        drop(says);
        let (mut streams, _, _) = streams("", Some(Arc::new(Fixed)));
        carry(remote, &mut streams).await.unwrap();
    }

    #[test]
    fn a_failure_without_an_exit_code_is_told() {
        let status =
            Status { status: Some("Failure".into()), message: Some("no such file".into()), ..Status::default() };
        assert_eq!(finish(Some(status)).unwrap_err().report(), "error: no such file");
        assert!(finish(None).is_ok());
    }
}
