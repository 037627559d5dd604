//! Makes a node's network what the plan says. Decides nothing, and may run at any time, any number of times.

use crate::cni;
use crate::kernel::{self, Kernel};
use crate::plan::{self, Network, NodeView, RouteChange, Settings};
use component_base::nft::{self, Nft};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The kernel forwards between Pods and nodes.
const FORWARDING: [&str; 2] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Nft(#[from] nft::Error),
    #[error(transparent)]
    Cni(#[from] cni::Error),
    #[error("cannot write {path}")]
    Forwarding {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{failed} of {all} routes could not be set; the first: {first}")]
    Routes { failed: usize, all: usize, first: String },
}

pub struct Agent {
    settings: Settings,
    kernel: Box<dyn Kernel>,
    nft: Box<dyn Nft>,
    /// The rules that the kernel was given, so that they are not given again with every Node that comes.
    rules: String,
}

impl Agent {
    pub fn new(settings: Settings, kernel: Box<dyn Kernel>, nft: Box<dyn Nft>) -> Self {
        Self { settings, kernel, nft, rules: String::new() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says if the node has a network. The CNI configuration comes last: with it the node becomes ready for Pods.
    pub async fn reconcile(&mut self, nodes: &BTreeMap<String, NodeView>) -> Result<bool, Error> {
        let Some(network) = plan::network(&self.settings, nodes) else { return Ok(false) };
        enable_forwarding()?;
        self.kernel.ensure_bridge(&self.settings.bridge, self.settings.mtu, &network.gateways).await?;
        self.set_rules(&network).await?;
        let routes = self.set_routes(&network).await;
        cni::write(&self.settings.cni_conf_dir, &self.settings.cni_conf_name, &network.conflist)?;
        routes?;
        Ok(true)
    }

    /// The next reconcile gives the rules again, in case that somebody removed them.
    pub fn forget_rules(&mut self) {
        self.rules.clear();
    }

    async fn set_rules(&mut self, network: &Network) -> Result<(), Error> {
        if self.rules != network.rules {
            self.nft.apply(&network.rules).await?;
            self.let_through(network).await?;
            self.rules.clone_from(&network.rules);
        }
        Ok(())
    }

    /// Where iptables has a forward chain, Pods' traffic must pass it.
    async fn let_through(&self, network: &Network) -> Result<(), Error> {
        for (family, ranges) in &network.forwarded {
            // No such chain is the rule: nothing drops then.
            let Ok(chain) = self.nft.list(&format!("chain {family} filter FORWARD")).await else { continue };
            self.nft.apply(&plan::forward_rules(family, ranges, &chain)).await?;
        }
        Ok(())
    }

    /// Sets all that can be set: a node that cannot be reached must not cut off the others.
    async fn set_routes(&self, network: &Network) -> Result<(), Error> {
        let observed = self.kernel.routes().await?;
        let changes = plan::route_changes(&network.routes, &observed);
        let all = changes.len();
        let mut failures = Vec::new();
        for change in changes {
            tracing::info!(?change, "changing a route");
            let done = match change {
                RouteChange::Replace(to, via) => self.kernel.replace_route(to, via).await,
                RouteChange::Delete(to, via) => self.kernel.delete_route(to, via).await,
            };
            failures.extend(done.err());
        }
        match failures.first() {
            None => Ok(()),
            Some(first) => {
                let first = std::error::Error::source(first).map_or(first.to_string(), |s| format!("{first}: {s}"));
                Err(Error::Routes { failed: failures.len(), all, first })
            }
        }
    }

    /// Takes everything away that this agent makes.
    pub async fn cleanup(&self) -> Result<(), Error> {
        cni::remove(&self.settings.cni_conf_dir, &self.settings.cni_conf_name)?;
        for (to, via) in self.kernel.routes().await? {
            self.kernel.delete_route(to, via).await?;
        }
        self.nft.apply(&plan::remove_rules()).await?;
        for family in ["ip", "ip6"] {
            let Ok(chain) = self.nft.list(&format!("chain {family} filter FORWARD")).await else { continue };
            if let Some(script) = plan::remove_forward_rules(family, &chain) {
                self.nft.apply(&script).await?;
            }
        }
        self.kernel.remove_link(&self.settings.bridge).await?;
        Ok(())
    }
}

fn enable_forwarding() -> Result<(), Error> {
    for path in FORWARDING {
        // A kernel without IPv6 has no such file.
        let Ok(current) = std::fs::read_to_string(path) else { continue };
        if current.trim() != "1" {
            std::fs::write(path, "1").map_err(|source| Error::Forwarding { path: path.into(), source })?;
        }
    }
    Ok(())
}
