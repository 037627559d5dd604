//! The running agent: it follows Nodes, and makes the network what they say when one of them changes.

use crate::agent::{self, Agent};
use crate::kernel::{self, Netlink};
use crate::options::Options;
use crate::plan::NodeView;
use component_base::client;
use component_base::informer::{Change, Informers};
use component_base::nft;
use component_base::shutdown::Shutdown;
use component_base::version;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often all is looked at again, for what other programs may have done.
const CHECK: Duration = Duration::from_secs(60);
/// The waits after failures: double, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("the host has no usable name")]
    Hostname(#[from] std::io::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Agent(#[from] agent::Error),
}

fn agent(options: &Options) -> Result<Agent, Error> {
    Ok(Agent::new(options.settings()?, Box::new(Netlink::connect()?), Box::new(nft::Program::default())))
}

/// Takes away what the agent made.
pub async fn cleanup(options: &Options) -> Result<(), Error> {
    Ok(agent(options)?.cleanup().await?)
}

/// Runs until shutdown. The network stays as it is then: Pods outlive their agent.
pub async fn run(options: &Options, shutdown: Shutdown) -> Result<(), Error> {
    let config = client::config(options.kubeconfig.as_deref(), None).await?;
    let client = client::from_config(config, &version::user_agent("pod-network"))?;
    let mut agent = agent(options)?;
    let informers = Informers::new(client, shutdown.clone());
    let nodes = Nodes::default();
    tokio::select! {
        () = nodes.watch(&informers) => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut failures: u32 = 0;
    loop {
        let views = nodes.views.lock().clone();
        let wait = match agent.reconcile(&views).await {
            Ok(has_network) => {
                failures = 0;
                if !has_network {
                    tracing::info!(node = agent.settings().node_name, "the Node has no spec.podCIDR yet");
                }
                CHECK
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::error!(%error, "the network is not yet what it should be");
                agent.forget_rules();
                FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures - 1)).min(LAST_RETRY)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = nodes.changed.notified() => {}
            () = tokio::time::sleep(wait) => agent.forget_rules(),
        }
    }
}

/// What is known of the Nodes.
#[derive(Default, Clone)]
struct Nodes {
    views: Arc<Mutex<BTreeMap<String, NodeView>>>,
    changed: Arc<Notify>,
}

impl Nodes {
    /// Ends when all Nodes have been seen once.
    async fn watch(&self, informers: &Informers) {
        informers.prune::<Node>(|node| {
            node.metadata.annotations = None;
            node.metadata.labels = None;
            if let Some(status) = &mut node.status {
                let addresses = status.addresses.take();
                *status = Default::default();
                status.addresses = addresses;
            }
        });
        let this = self.clone();
        let informer = informers.get::<Node>();
        informer.on_change(move |change| this.note(change));
        informer.synced().await;
    }

    /// Nodes report their health all the time: only what the network is made of wakes the agent.
    fn note(&self, change: &Change<Node>) {
        let name = change.key().name;
        let view = change.new.as_deref().map(NodeView::from_api);
        let mut views = self.views.lock();
        if views.get(&name) == view.as_ref() {
            return;
        }
        match view {
            Some(view) => views.insert(name, view),
            None => views.remove(&name),
        };
        self.changed.notify_one();
    }
}
