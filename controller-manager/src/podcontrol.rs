//! Making and deleting the pods of a set: slow-start batches, events, and what failed.

use std::sync::Arc;

use component_base::client;
use component_base::events::{EventType, Recorder};
use component_base::informer::Key;
use component_base::runner::chain;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::expectations::Expectations;
use crate::writes;

/// The size of the first batch of creations; each batch that succeeds doubles it.
pub const SLOW_START: usize = 1;

/// Makes and deletes pods, and tells of it in events about their owner.
#[derive(Clone)]
pub struct PodControl {
    client: Client,
    recorder: Recorder,
}

/// What a run of creations came to.
#[derive(Debug, Default)]
pub struct Created {
    /// How many succeeded.
    pub succeeded: usize,
    /// How many failed or were not tried after a failure.
    pub skipped: usize,
    /// The first error.
    pub error: Option<kube::Error>,
}

impl PodControl {
    /// With a controller's client and recorder.
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    /// The pods of a namespace.
    pub fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes these pods in batches of 1, 2, 4, …; after a batch with a failure no more are tried, so that a pod that cannot be made does not
    /// cost a request each. Calls `failed` for each that will not appear.
    pub async fn create(&self, namespace: &str, owner: &ObjectReference, pods: Vec<Pod>, failed: impl Fn()) -> Created {
        let api = self.api(namespace);
        let mut outcome = Created::default();
        let mut rest = pods.as_slice();
        let mut size = SLOW_START;
        while !rest.is_empty() && outcome.error.is_none() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            for result in join_all(batch.iter().map(|pod| self.create_one(&api, owner, pod))).await {
                match result {
                    Ok(()) => outcome.succeeded += 1,
                    Err(error) => {
                        failed();
                        outcome.skipped += 1;
                        // A namespace that ends takes no more pods: nothing to report, nothing to retry.
                        if !client::is_namespace_terminating(&error) {
                            outcome.error.get_or_insert(error);
                        }
                    }
                }
            }
            if outcome.skipped > 0 {
                rest = later;
                break;
            }
            rest = later;
            size *= 2;
        }
        rest.iter().for_each(|_| failed());
        outcome.skipped += rest.len();
        outcome
    }

    async fn create_one(&self, api: &Api<Pod>, owner: &ObjectReference, pod: &Pod) -> Result<(), kube::Error> {
        match api.create(&PostParams::default(), pod).await {
            Ok(created) => {
                let name = created.metadata.name.unwrap_or_default();
                self.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(())
            }
            Err(error) => {
                if !client::is_namespace_terminating(&error) {
                    let note = format!("Error creating: {}", message(&error));
                    self.recorder.event(owner, EventType::Warning, "FailedCreate", "", note);
                }
                Err(error)
            }
        }
    }

    /// Deletes a pod, unless another of its name took its place. One that is gone is fine, but gives `false`: there will be no event.
    pub async fn delete(&self, owner: &ObjectReference, pod: &Pod) -> Result<bool, kube::Error> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let api = self.api(pod.metadata.namespace.as_deref().unwrap_or_default());
        match writes::delete(&api, &pod.metadata).await {
            Ok(deleted) => {
                if deleted {
                    self.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
                }
                Ok(deleted)
            }
            Err(error) => {
                let note = format!("Error deleting: {}", message(&error));
                self.recorder.event(owner, EventType::Warning, "FailedDelete", "", note);
                Err(error)
            }
        }
    }
}

impl PodControl {
    /// Makes and deletes pods, which `expectations` then wait to see come and gone; gives the first error.
    pub async fn apply(
        &self,
        key: &Key,
        owner: &ObjectReference,
        create: Vec<Pod>,
        delete: &[Arc<Pod>],
        expectations: &Expectations,
    ) -> Option<kube::Error> {
        expectations.expect(key, create.len(), delete.iter().filter_map(|pod| pod.metadata.uid.clone()));
        let created = self.create(&key.namespace, owner, create, || expectations.creation_observed(key)).await;
        let deleted = join_all(delete.iter().map(|pod| async {
            let deleted = self.delete(owner, pod).await;
            if !matches!(deleted, Ok(true)) {
                expectations.deletion_observed(key, pod.metadata.uid.as_deref().unwrap_or_default());
            }
            deleted
        }));
        created.error.or(deleted.await.into_iter().find_map(Result::err))
    }
}

/// An error's text for people: the server's own message where there is one.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}
