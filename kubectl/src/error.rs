//! Errors in kubectl's words.

use apimachinery::status::Status;

/// Why a command failed. Its text is the message alone; [`Error::report`] is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused.
    #[error("{}", .0.message)]
    Server(Box<Status>),
    /// The server was not reached, or what it says is not HTTP.
    #[error("{cause}")]
    Connect { host: String, refused: bool, cause: String },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The command line, a file or the state of the world is wrong.
    #[error("{0}")]
    Usage(String),
    /// Text that is shown without `error:` before it.
    #[error("{0}")]
    Plain(String),
    /// Several errors, one on each line.
    #[error("[{}]", .0.iter().map(Error::to_string).collect::<Vec<_>>().join(", "))]
    Many(Vec<Error>),
    /// The remote command's exit code.
    #[error("command terminated with exit code {0}")]
    Exit(u8),
}

/// A result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the user's making.
pub fn usage<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Usage(message.into()))
}

/// An error in how a command was called: `kubectl logs`.
pub fn wrong_call<T>(command: &str, message: impl std::fmt::Display) -> Result<T> {
    usage(format!("{message}\nSee '{command} -h' for help and examples"))
}

impl Error {
    /// Whether the server said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Server(status) if status.reason == "NotFound")
    }

    /// Whether the server said that the user may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Server(status) if status.reason == "Forbidden")
    }

    /// Whether an object changed since it was read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Server(status) if status.reason == "Conflict")
    }

    /// Whether the server does not know the verb for the resource.
    pub fn is_method_not_supported(&self) -> bool {
        matches!(self, Self::Server(status) if status.reason == "MethodNotAllowed")
    }

    /// The same error, with what was being done and to the object of which file; `source` is empty for objects of no file.
    #[must_use]
    pub fn while_doing(self, verb: &str, source: &str) -> Self {
        if source.is_empty() {
            return self;
        }
        let with = |message: &str| format!("error when {verb} \"{source}\": {message}");
        match self {
            Self::Server(mut status) => {
                status.message = with(&status.message);
                Self::Server(status)
            }
            Self::Exit(code) => Self::Exit(code),
            other => Self::Usage(with(&other.to_string())),
        }
    }

    /// One error for a list of them: none, the only one, or all.
    ///
    /// # Errors
    /// Where the list is not empty.
    pub fn of(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Self::all(errors),
        }
    }

    /// As [`Error::of`], but a single error too is one of a list, which is shown without `error:`.
    ///
    /// # Errors
    /// Where the list is not empty.
    pub fn all(errors: Vec<Self>) -> Result<()> {
        let mut flat = Vec::new();
        for error in errors {
            match error {
                Self::Many(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.is_empty() { Ok(()) } else { Err(Self::Many(flat)) }
    }

    /// What the user reads when the command ends with this error.
    pub fn report(&self) -> String {
        match self {
            Self::Server(status) if status.reason == "Invalid" => invalid(status),
            Self::Many(errors) => errors.iter().map(Self::told).collect::<Vec<_>>().join("\n"),
            Self::Usage(message) if message.starts_with("error: ") => message.clone(),
            Self::Usage(_) | Self::Io(_) => format!("error: {self}"),
            other => other.told(),
        }
    }

    /// As one of several.
    fn told(&self) -> String {
        match self {
            Self::Server(status) if status.reason == "Unauthorized" => {
                format!("error: You must be logged in to the server ({})", status.message)
            }
            Self::Server(status) if status.reason.is_empty() => format!("Error from server: {}", status.message),
            Self::Server(status) => format!("Error from server ({}): {}", status.reason, status.message),
            Self::Connect { host, refused: true, .. } => {
                format!("The connection to the server {host} was refused - did you specify the right host or port?")
            }
            Self::Connect { cause, .. } => format!("Unable to connect to the server: {cause}"),
            other => other.to_string(),
        }
    }
}

/// The causes of an object that the server found invalid, each once.
fn invalid(status: &Status) -> String {
    let Some(details) = &status.details else {
        return match status.message.as_str() {
            "" => "The request is invalid".to_owned(),
            message => format!("The request is invalid: {message}"),
        };
    };
    let mut head = "The request is invalid".to_owned();
    if !details.kind.is_empty() || !details.name.is_empty() {
        head = format!("The {} \"{}\" is invalid", details.kind, details.name);
    } else if details.causes.is_empty() && !status.message.is_empty() {
        head = format!("The request is invalid: {}", status.message);
    }
    let mut causes: Vec<String> = Vec::new();
    for cause in &details.causes {
        let text = format!("{}: {}", cause.field, cause.message);
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    match causes.as_slice() {
        [] => head,
        [cause] => format!("{head}: {cause}"),
        causes => format!("{head}: \n* {}", causes.join("\n* ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(status: serde_json::Value) -> Error {
        Error::Server(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn the_servers_refusals_are_told_with_their_reason() {
        let missing = || server(json!({"reason": "NotFound", "message": "pods \"x\" not found"}));
        assert_eq!(missing().report(), "Error from server (NotFound): pods \"x\" not found");
        let doing = missing().while_doing("deleting", "a.yaml").report();
        assert_eq!(doing, "Error from server (NotFound): error when deleting \"a.yaml\": pods \"x\" not found");
        let login = server(json!({"reason": "Unauthorized", "message": "Unauthorized"}));
        assert_eq!(login.report(), "error: You must be logged in to the server (Unauthorized)");
    }

    #[test]
    fn an_invalid_object_has_its_causes_listed_once() {
        let cause = |field: &str| json!({"field": field, "message": "Required value"});
        let of = |causes: Vec<serde_json::Value>| {
            let details = json!({"kind": "Pod", "name": "x", "causes": causes});
            server(json!({"reason": "Invalid", "details": details})).report()
        };
        assert_eq!(of(vec![cause("a"), cause("a")]), "The Pod \"x\" is invalid: a: Required value");
        assert_eq!(
            of(vec![cause("a"), cause("b")]),
            "The Pod \"x\" is invalid: \n* a: Required value\n* b: Required value"
        );
    }

    #[test]
    fn several_errors_stand_on_lines_of_their_own_without_a_prefix() {
        let many = Error::of(vec![Error::Usage("one".into()), Error::Usage("two".into())]).unwrap_err();
        assert_eq!(many.report(), "one\ntwo");
        assert_eq!(Error::of(vec![Error::Usage("one".into())]).unwrap_err().report(), "error: one");
        assert_eq!(Error::all(vec![Error::Usage("one".into())]).unwrap_err().report(), "one");
    }
}
