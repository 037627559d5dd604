//! The command line's flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{apply, config, create, delete, exec, get, logs, port_forward, rollout, scale, version, wait};

/// kubectl controls the Kubernetes cluster manager.
#[derive(Debug, Parser)]
#[command(name = "kubectl")]
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
}

/// Which objects a command is about.
#[derive(Debug, Args, Default)]
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
    /// Files or directories with the objects, or - for standard input
    #[arg(long, short, value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Process the directories of -f with all that is below them
    #[arg(long, short = 'R')]
    pub recursive: bool,
}

/// The commands that there are.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Display one or many resources
    Get(get::Options),
    /// Create a resource from a file or from stdin
    Create(create::Options),
    /// Apply a configuration to a resource by file name or stdin
    Apply(apply::Options),
    /// Delete resources by file names, stdin, resources and names, or by resources and label selector
    Delete(delete::Options),
    /// Set a new size for a deployment, replica set, or replication controller
    Scale(scale::Options),
    /// Manage the rollout of a resource
    Rollout(rollout::Options),
    /// Wait for a specific condition on one or many resources
    Wait(wait::Options),
    /// Print the logs for a container in a pod
    Logs(logs::Options),
    /// Execute a command in a container
    Exec(exec::Options),
    /// Forward one or more local ports to a pod
    PortForward(port_forward::Options),
    /// Modify kubeconfig files
    Config(config::Options),
    /// Print the client and server version information
    Version(version::Options),
}

/// A duration as Go writes it: `30s`, `1m30s`, `500ms`, `2h`; a bare number is in seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration \"{text}\"");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.abs()).map_err(|_| wrong());
    }
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| number + end);
        let factor = match &rest[number..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += factor * rest[..number].parse::<f64>().map_err(|_| wrong())?;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert!(duration("5x").is_err());
    }

    #[test]
    fn the_flags_do_not_clash() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
