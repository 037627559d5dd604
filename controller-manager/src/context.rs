//! What a controller is started with: flags, caches, clients with its own rights, and the runner.

use std::sync::Arc;

use component_base::events::Recorder;
use component_base::informer::{Informer, Informers, Key, Object};
use component_base::metrics::Registry;
use component_base::queue::WorkQueue;
use component_base::runner::{self, Controller, Metrics};
use component_base::shutdown::Shutdown;
use kube::Client;

use crate::credentials::Clients;
use crate::options;

/// Why a controller cannot start.
pub type Error = runner::Error;

/// Clones share everything.
#[derive(Clone)]
pub struct Context {
    /// The flags.
    pub options: Arc<options::Options>,
    /// The caches of this process: one watch per resource.
    pub informers: Informers,
    /// The runner's metrics.
    pub metrics: Metrics,
    /// For a controller's own metrics.
    pub registry: Registry,
    /// Cancelled when the lead is lost or the process ends.
    pub shutdown: Shutdown,
    pub(crate) clients: Arc<Clients>,
}

impl Context {
    /// The client of a controller, with the rights of `kube-system/<service_account>` if `--use-service-account-credentials` is set, else with those
    /// of the process. Waits until the API server gives credentials.
    pub async fn client(&self, service_account: &str) -> Result<Client, Error> {
        Ok(self.clients.client(service_account).await?)
    }

    /// A recorder of events with a controller's client. `component` is the events' source, such as `deployment-controller`.
    pub fn recorder(&self, client: &Client, component: &str) -> Recorder {
        Recorder::new(client.clone(), component, None)
    }

    /// A queue with the keys of all objects of an informer: those that are there, and those that change.
    pub fn keys_of<K: Object>(&self, informer: &Informer<K>) -> WorkQueue<Key> {
        let queue = WorkQueue::new();
        let keys = queue.clone();
        informer.on_change(move |change| keys.add(change.key()));
        queue
    }

    /// Runs a controller until shutdown.
    pub async fn run<C: Controller>(&self, controller: C, queue: WorkQueue<C::Key>, workers: usize) {
        runner::run(Arc::new(controller), queue, workers, self.metrics.clone(), self.shutdown.clone()).await;
    }
}
