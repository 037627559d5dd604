//! The flags of pod-network.

use crate::plan::Settings;
use clap::{ArgAction, Parser};
use component_base::logging;
use ipnet::IpNet;
use std::path::PathBuf;

/// The network of a node's Pods: CNI configuration, bridge, routes to the other nodes, masquerade.
#[derive(Debug, Clone, Parser)]
#[command(name = "pod-network", disable_version_flag = true)]
#[group(skip)]
pub struct Options {
    /// The kubeconfig file; without it, the service account of the pod.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The name of this Node.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// The address ranges of all Pods of the cluster, one for each family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// The bridge that Pods are connected to.
    #[arg(long, default_value = "cni0")]
    pub bridge: String,
    /// The largest packet of Pods' interfaces; without it, the kernel's choice.
    #[arg(long)]
    pub mtu: Option<u32>,
    /// The folder that the container runtime reads its network configuration from.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// The name of the configuration there. Runtimes take the first in order.
    #[arg(long, default_value = "10-pod-network.conflist")]
    pub cni_conf_name: String,
    /// The folder in which addresses in use are remembered; without it, the plugin's own.
    #[arg(long)]
    pub ipam_data_dir: Option<PathBuf>,
    /// Serve containers' host ports (the plugin needs iptables on the machine).
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub port_mappings: bool,
    /// Give packets that leave the cluster the node's address.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    pub masquerade: bool,
    /// Take everything away that this program makes, and exit.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub cleanup: bool,
    /// Print version information and quit
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub version: bool,
    #[command(flatten)]
    pub logging: logging::Options,
}

impl Options {
    /// The settings, with the host's name where no Node's name is given.
    pub fn settings(&self) -> std::io::Result<Settings> {
        let node_name = match &self.node_name {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()?.to_string_lossy().trim().to_lowercase(),
        };
        Ok(Settings {
            node_name,
            cluster_cidrs: self.cluster_cidr.clone(),
            bridge: self.bridge.clone(),
            mtu: self.mtu,
            cni_conf_dir: self.cni_conf_dir.clone(),
            cni_conf_name: self.cni_conf_name.clone(),
            ipam_data_dir: self.ipam_data_dir.clone(),
            port_mappings: self.port_mappings,
            masquerade: self.masquerade,
        })
    }
}
