//! The command line's flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;

use crate::commands::{
    annotate, api_resources, api_versions, apply, attach, config, create, delete, describe, exec, explain, get, label,
    logs, port_forward, rollout, scale, version, wait,
};
use crate::error::{Error, Result};
use crate::flags::{count, text_duration};

/// kubectl controls the Kubernetes cluster manager.
#[derive(Debug, Parser)]
#[command(name = "kubectl", disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args, Default)]
pub struct Globals {
    /// Path to the kubeconfig file to use
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The name of the kubeconfig cluster to use
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The name of the kubeconfig user to use
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// The address and port of the Kubernetes API server
    #[arg(long, short = 's', global = true)]
    pub server: Option<String>,
    /// The namespace scope for this request
    #[arg(long, short, global = true)]
    pub namespace: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true)]
    pub token: Option<String>,
    /// Username for basic authentication to the API server
    #[arg(long, global = true)]
    pub username: Option<String>,
    /// Password for basic authentication to the API server
    #[arg(long, global = true)]
    pub password: Option<String>,
    /// Username to impersonate for the operation
    #[arg(long = "as", global = true)]
    pub as_user: Option<String>,
    /// Group to impersonate for the operation, this flag can be repeated
    #[arg(long, global = true)]
    pub as_group: Vec<String>,
    /// UID to impersonate for the operation
    #[arg(long, global = true)]
    pub as_uid: Option<String>,
    /// Path to a cert file for the certificate authority
    #[arg(long, global = true)]
    pub certificate_authority: Option<String>,
    /// Path to a client certificate file for TLS
    #[arg(long, global = true)]
    pub client_certificate: Option<String>,
    /// Path to a client key file for TLS
    #[arg(long, global = true)]
    pub client_key: Option<String>,
    /// Server name to use for server certificate validation
    #[arg(long, global = true)]
    pub tls_server_name: Option<String>,
    /// The server's certificate is not checked for validity
    #[arg(long, global = true)]
    pub insecure_skip_tls_verify: bool,
    /// The length of time to wait before giving up on a single server request
    #[arg(long, global = true, value_parser = text_duration)]
    pub request_timeout: Option<SignedDuration>,
    /// Default cache directory
    #[arg(long, global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Treat warnings received from the server as errors
    #[arg(long, global = true)]
    pub warnings_as_errors: bool,
}

impl Globals {
    /// How long one request may take; `None` for as long as it takes.
    ///
    /// # Errors
    /// A time that is negative.
    pub fn timeout(&self) -> Result<Option<Duration>> {
        match self.request_timeout.filter(|timeout| !timeout.is_zero()) {
            None => Ok(None),
            Some(timeout) => Duration::try_from(timeout)
                .map(Some)
                .map_err(|_| Error::Usage(format!("invalid request timeout {timeout:?}"))),
        }
    }
}

/// Where objects are read from.
#[derive(Debug, Args, Default, Clone)]
pub struct Files {
    /// Files or directories with the objects, or - for standard input
    #[arg(long, short, value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Process the directories of -f with all that is below them
    #[arg(long, short = 'R')]
    pub recursive: bool,
}

impl Files {
    /// Whether none was named.
    pub fn is_empty(&self) -> bool {
        self.filename.is_empty()
    }
}

/// Which objects a command is about.
#[derive(Debug, Args, Default, Clone)]
pub struct Selection {
    /// TYPE NAME..., TYPE/NAME...
    pub arguments: Vec<String>,
    /// Label query to filter on
    #[arg(long, short = 'l', default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Field query to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    pub field_selector: String,
    /// All namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Return large lists in chunks rather than all at once; 0 is all at once
    #[arg(long, value_parser = count, default_value_t = crate::api::CHUNK)]
    pub chunk_size: u64,
    #[command(flatten)]
    pub files: Files,
}

/// Whether a change is made, and if not, by whom it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DryRun {
    #[default]
    None,
    Client,
    Server,
}

impl DryRun {
    /// Reads `--dry-run`.
    ///
    /// # Errors
    /// What is none of its values.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            other => Err(format!("Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\".")),
        }
    }

    /// What the request says of it.
    pub fn query(self) -> &'static str {
        if self == Self::Server { "All" } else { "" }
    }

    /// What messages add to the verb.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// Flags of commands that change objects.
#[derive(Debug, Args, Default, Clone)]
pub struct Changing {
    /// none, client or server: whether the change is made
    #[arg(long, default_value = "none", value_parser = DryRun::parse)]
    pub dry_run: DryRun,
    /// json, yaml, name or a jsonpath: the object as it is then
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub output: String,
    /// Template to use with -o
    #[arg(long, default_value = "", hide_default_value = true)]
    pub template: String,
    /// Keep metadata.managedFields
    #[arg(long)]
    pub show_managed_fields: bool,
}

/// The commands that there are.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a resource from a file or from stdin
    Create(create::Options),
    /// Get documentation for a resource
    Explain(explain::Options),
    /// Display one or many resources
    Get(get::Options),
    /// Delete resources by file names, stdin, resources and names, or by resources and label selector
    Delete(delete::Options),
    /// Manage the rollout of a resource
    Rollout(rollout::Options),
    /// Set a new size for a deployment, replica set, or replication controller
    Scale(scale::Options),
    /// Show details of a specific resource or group of resources
    Describe(describe::Options),
    /// Print the logs for a container in a pod
    Logs(logs::Options),
    /// Attach to a running container
    Attach(attach::Options),
    /// Execute a command in a container
    Exec(exec::Options),
    /// Forward one or more local ports to a pod
    PortForward(port_forward::Options),
    /// Apply a configuration to a resource by file name or stdin
    Apply(apply::Options),
    /// Wait for a specific condition on one or many resources
    Wait(wait::Options),
    /// Update the labels on a resource
    Label(label::Options),
    /// Update the annotations on a resource
    Annotate(annotate::Options),
    /// Print the supported API resources on the server
    ApiResources(api_resources::Options),
    /// Print the supported API versions on the server, in the form of "group/version"
    ApiVersions(api_versions::Options),
    /// Modify kubeconfig files
    Config(config::Options),
    /// Print the client and server version information
    Version(version::Options),
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_flags_do_not_clash() {
        crate::flags::command().debug_assert();
    }
}
