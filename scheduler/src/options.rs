//! The flags of kube-scheduler, with upstream's names and defaults.

use std::path::PathBuf;

use component_base::options::GoDuration;
use component_base::{client, leader_election, logging, options, process, serving};

/// All flags.
#[derive(Clone, Debug, clap::Parser)]
#[group(skip)]
#[command(
    name = "kube-scheduler",
    version = component_base::version::GIT_VERSION,
    about = "The Kubernetes scheduler: decides on which node each pod runs"
)]
pub struct Options {
    #[command(flatten)]
    pub logging: logging::Options,
    #[command(flatten)]
    pub leader_election: leader_election::Flags,
    #[command(flatten)]
    pub serving: serving::Flags<10259>,
    /// The API server; a configuration file's clientConnection counts first.
    #[command(flatten)]
    pub client: client::Flags,
    #[command(flatten)]
    pub ignored: options::Ignored,
    #[command(flatten)]
    pub own_ignored: Ignored,

    /// The path to the configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// After this time an unschedulable pod is tried again, whatever happened
    #[arg(long, default_value = "5m0s")]
    pub pod_max_in_unschedulable_pods_duration: GoDuration,
}

impl process::Options for Options {
    const UNSUPPORTED: &'static [&'static str] = &["write-config-to"];

    fn logging(&self) -> &logging::Options {
        &self.logging
    }
}

/// Taken so that existing manifests work; nothing depends on them.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Ignored {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    unsupported_kube_api_over_localhost: Option<bool>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn flags_are_well_formed_and_kubeadms_manifest_is_understood() {
        Options::command().debug_assert();
        let options = Options::parse_from([
            "kube-scheduler",
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--bind-address=127.0.0.1",
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--leader-elect=true",
            "-v=2",
        ]);
        assert_eq!(options.serving.secure_port, 10259);
        assert!(options.leader_election.leader_elect);
    }
}
