//! The kernel's nftables behind one narrow trait: a transaction goes in as text, and all of it or none of it happens.

use async_trait::async_trait;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Why a transaction was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there.
    #[error("cannot run {program}: install the package nftables")]
    Spawn {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended while it was written to or read from.
    #[error("cannot talk to nft")]
    Pipe(#[source] std::io::Error),
    /// The transaction is not valid, or not possible.
    #[error("nft refused the transaction: {message}")]
    Refused {
        /// What nft said.
        message: String,
    },
}

/// Applies transactions.
#[async_trait]
pub trait Nft: Send + Sync {
    /// Applies one script as one transaction.
    async fn apply(&self, script: &str) -> Result<(), Error>;

    /// What is there, in nft's words with handles: `chain ip filter FORWARD`, for example. Fails if it is not there.
    async fn list(&self, what: &str) -> Result<String, Error>;
}

/// The `nft` program, which reads the script from its standard input.
#[derive(Debug, Clone)]
pub struct Program {
    command: Vec<String>,
}

impl Default for Program {
    fn default() -> Self {
        Self::with_command(vec!["nft".into()])
    }
}

impl Program {
    /// `command` is the program and its first arguments, for nft in another place (`ip netns exec NAME nft`).
    pub fn with_command(command: Vec<String>) -> Self {
        Self { command }
    }
}

/// The longest part of nft's complaint that is passed on: it repeats the commands it refuses.
const MAX_MESSAGE: usize = 2000;

impl Program {
    /// Runs one script, and gives what nft printed.
    async fn run(&self, script: &str) -> Result<String, Error> {
        let program = self.command.first().map_or("nft", String::as_str);
        let mut child = Command::new(program)
            .args(self.command.iter().skip(1))
            .args(["--handle", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.to_owned(), source })?;
        let mut stdin = child.stdin.take().ok_or_else(|| Error::Pipe(std::io::ErrorKind::BrokenPipe.into()))?;
        // nft reads all of its input before it does or says anything, so writing first cannot block on its output.
        let written = async {
            stdin.write_all(script.as_bytes()).await?;
            stdin.shutdown().await
        }
        .await;
        drop(stdin);
        let output = child.wait_with_output().await.map_err(Error::Pipe)?;
        if !output.status.success() {
            let message: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(MAX_MESSAGE).collect();
            return Err(Error::Refused { message });
        }
        written.map_err(Error::Pipe)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[async_trait]
impl Nft for Program {
    async fn apply(&self, script: &str) -> Result<(), Error> {
        self.run(script).await.map(drop)
    }

    async fn list(&self, what: &str) -> Result<String, Error> {
        self.run(&format!("list {what}\n")).await
    }
}
