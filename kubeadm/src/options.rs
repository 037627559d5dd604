//! The command line.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, Configuration},
    files::Root,
};

#[derive(Parser)]
#[command(name = "kubeadm", version = component_base::version::GIT_VERSION, about = "Set up a cluster, and join nodes to it")]
pub struct Options {
    /// A folder to take the place of / for the files that are read and written
    #[arg(long, global = true, default_value = "/")]
    pub rootfs: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make this node the control plane of a new cluster
    Init(InitOptions),
    /// Make this node part of a cluster
    Join(JoinOptions),
    /// Undo what init or join wrote on this node
    Reset,
    /// Bootstrap tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Certificates of this node
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Kubeconfig files
    #[command(subcommand)]
    Kubeconfig(KubeconfigCommand),
}

#[derive(Args)]
pub struct InitOptions {
    /// A file of kubeadm.k8s.io/v1beta4, and fields of the kubelet's and kube-proxy's configuration
    #[arg(long)]
    pub config: Option<PathBuf>,
    #[arg(long)]
    pub apiserver_advertise_address: Option<IpAddr>,
    #[arg(long)]
    pub apiserver_bind_port: Option<u16>,
    #[arg(long)]
    pub control_plane_endpoint: Option<String>,
    #[arg(long)]
    pub cert_dir: Option<String>,
    #[arg(long)]
    pub cri_socket: Option<String>,
    #[arg(long)]
    pub image_repository: Option<String>,
    #[arg(long)]
    pub node_name: Option<String>,
    #[arg(long)]
    pub pod_network_cidr: Option<String>,
    #[arg(long)]
    pub service_cidr: Option<String>,
    #[arg(long)]
    pub service_dns_domain: Option<String>,
    #[arg(long, value_delimiter = ',')]
    pub apiserver_cert_extra_sans: Vec<String>,
    #[arg(long)]
    pub token: Option<String>,
    #[arg(long)]
    pub token_ttl: Option<String>,
    #[arg(long, value_delimiter = ',')]
    pub skip_phases: Vec<String>,
    /// `phase NAME…`: run only these
    #[command(subcommand)]
    pub phase: Option<PhaseCommand>,
}

#[derive(Subcommand)]
pub enum PhaseCommand {
    /// Run single phases
    Phase { names: Vec<String> },
}

#[derive(Args)]
pub struct JoinOptions {
    /// HOST:PORT of the apiserver
    pub endpoint: Option<String>,
    #[arg(long)]
    pub config: Option<PathBuf>,
    #[arg(long)]
    pub token: Option<String>,
    #[arg(long)]
    pub discovery_token: Option<String>,
    #[arg(long)]
    pub tls_bootstrap_token: Option<String>,
    #[arg(long)]
    pub discovery_token_ca_cert_hash: Vec<String>,
    #[arg(long)]
    pub discovery_token_unsafe_skip_ca_verification: bool,
    #[arg(long)]
    pub cri_socket: Option<String>,
    #[arg(long)]
    pub node_name: Option<String>,
}

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Print a new token, without storing it
    Generate,
    /// Store a token in the cluster
    Create {
        token: Option<String>,
        #[arg(long, default_value = "24h")]
        ttl: String,
        #[arg(long, default_value = "")]
        description: String,
        /// Print what to type on a joining node
        #[arg(long)]
        print_join_command: bool,
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
    /// List the tokens of the cluster
    List {
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
    /// Remove tokens, by id or whole
    Delete {
        #[arg(required = true)]
        tokens: Vec<String>,
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration for this node with every default
    Print {
        #[command(subcommand)]
        what: PrintCommand,
    },
}

#[derive(Subcommand)]
pub enum PrintCommand {
    InitDefaults,
    JoinDefaults,
}

#[derive(Subcommand)]
pub enum CertsCommand {
    /// Say when each certificate ends
    CheckExpiration,
}

#[derive(Subcommand)]
pub enum KubeconfigCommand {
    /// Print a kubeconfig for another user
    User {
        #[arg(long)]
        client_name: String,
        #[arg(long)]
        org: Vec<String>,
        #[arg(long)]
        config: Option<PathBuf>,
        /// The apiserver's address; the administrator's if not given
        #[arg(long)]
        server: Option<String>,
    },
}

/// Reads a configuration file, or gives the defaults.
pub fn read_configuration(path: Option<&PathBuf>) -> Result<Configuration> {
    let Some(path) = path else { return Ok(Configuration::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    config::parse(&text).with_context(|| path.display().to_string())
}

fn set<T>(field: &mut T, flag: &Option<T>)
where
    T: Clone,
{
    if let Some(value) = flag {
        field.clone_from(value);
    }
}

impl InitOptions {
    /// The file, with the flags laid over it.
    pub fn configuration(&self) -> Result<Configuration> {
        let mut all = read_configuration(self.config.as_ref())?;
        let (cluster, init) = (&mut all.cluster, &mut all.init);
        if self.apiserver_advertise_address.is_some() {
            init.local_api_endpoint.advertise_address = self.apiserver_advertise_address;
        }
        set(&mut init.local_api_endpoint.bind_port, &self.apiserver_bind_port);
        set(&mut init.node_registration.cri_socket, &self.cri_socket);
        set(&mut init.node_registration.name, &self.node_name);
        set(&mut cluster.certificates_dir, &self.cert_dir);
        set(&mut cluster.image_repository, &self.image_repository);
        set(&mut cluster.networking.pod_subnet, &self.pod_network_cidr);
        set(&mut cluster.networking.service_subnet, &self.service_cidr);
        set(&mut cluster.networking.dns_domain, &self.service_dns_domain);
        if self.control_plane_endpoint.is_some() {
            cluster.control_plane_endpoint.clone_from(&self.control_plane_endpoint);
        }
        cluster.api_server.cert_sans.extend(self.apiserver_cert_extra_sans.iter().cloned());
        init.skip_phases.extend(self.skip_phases.iter().cloned());
        if self.token.is_some() || self.token_ttl.is_some() {
            let mut token = config::BootstrapToken::default();
            set(&mut token.token, &self.token);
            set(&mut token.ttl, &self.token_ttl);
            init.bootstrap_tokens = vec![token];
        }
        Ok(all)
    }

    pub fn phases(&self) -> &[String] {
        match &self.phase {
            Some(PhaseCommand::Phase { names }) => names,
            None => &[],
        }
    }
}

impl JoinOptions {
    pub fn configuration(&self) -> Result<Configuration> {
        let mut all = read_configuration(self.config.as_ref())?;
        let join = &mut all.join;
        let discovery = &mut join.discovery.bootstrap_token;
        set(&mut discovery.api_server_endpoint, &self.endpoint);
        set(&mut discovery.token, &self.token);
        set(&mut discovery.token, &self.discovery_token);
        discovery.ca_cert_hashes.extend(self.discovery_token_ca_cert_hash.iter().cloned());
        discovery.unsafe_skip_ca_verification |= self.discovery_token_unsafe_skip_ca_verification;
        if self.tls_bootstrap_token.is_some() {
            join.discovery.tls_bootstrap_token.clone_from(&self.tls_bootstrap_token);
        }
        set(&mut join.node_registration.cri_socket, &self.cri_socket);
        set(&mut join.node_registration.name, &self.node_name);
        Ok(all)
    }
}

impl Options {
    pub fn root(&self) -> Root {
        Root::new(&self.rootfs)
    }
}
