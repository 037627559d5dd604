//! Errors in kubectl's words.

use std::fmt;

/// Why a command failed; its text is what the user reads.
#[derive(Debug)]
pub enum Error {
    /// The server refused; with what was being done (`error when creating "x.yaml"`), or empty.
    Server { status: Box<kube::core::Status>, doing: String },
    /// The server was not reached, or said something that is not the API.
    Client(Box<kube::Error>),
    /// Reading or writing failed.
    Io(std::io::Error),
    /// The command line, a file or the state of the world is wrong.
    Usage(String),
    /// The remote command's exit code, already told.
    Exit(u8),
}

/// A result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the user's making.
pub fn usage<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Usage(message.into()))
}

impl Error {
    /// Whether the server said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Server { status, .. } if status.code == 404)
    }

    /// The same error, with what was being done.
    #[must_use]
    pub fn while_doing(self, what: impl Into<String>) -> Self {
        match self {
            Self::Server { status, .. } => Self::Server { status, doing: what.into() },
            other => other,
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Server { status, doing: String::new() },
            other => Self::Client(Box::new(other)),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { status, doing } => server(f, status, doing),
            Self::Client(error) => write!(f, "Unable to connect to the server: {}", innermost(error)),
            Self::Io(error) => write!(f, "error: {error}"),
            Self::Usage(message) => write!(f, "error: {message}"),
            Self::Exit(code) => write!(f, "command terminated with exit code {code}"),
        }
    }
}

fn server(f: &mut fmt::Formatter<'_>, status: &kube::core::Status, doing: &str) -> fmt::Result {
    if status.reason == "Invalid"
        && let Some(details) = &status.details
    {
        write!(f, "The {} \"{}\" is invalid", details.kind, details.name)?;
        return match details.causes.as_slice() {
            [] => write!(f, ": {}", status.message),
            [cause] => write!(f, ": {}: {}", cause.field, cause.message),
            causes => {
                write!(f, ": ")?;
                causes.iter().try_for_each(|cause| write!(f, "\n* {}: {}", cause.field, cause.message))
            }
        };
    }
    if status.code == 401 {
        return write!(f, "error: You must be logged in to the server ({})", status.message);
    }
    write!(f, "Error from server")?;
    if !status.reason.is_empty() {
        write!(f, " ({})", status.reason)?;
    }
    if !doing.is_empty() {
        write!(f, ": {doing}")?;
    }
    write!(f, ": {}", status.message)
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
