//! Namespaces that are being deleted: all that is in them goes first, then they do.

mod content;
mod plan;

use std::time::Duration;

use async_trait::async_trait;
use component_base::client::{is_conflict, is_not_found};
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::Context;
use plan::{Next, Outcome};

/// Between two looks at a namespace whose content takes its time to go.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The same, when only finalizers of others hold it.
const LOOK_AGAIN_FOR_FINALIZERS: Duration = Duration::from_secs(2);

struct Namespaces {
    client: Client,
    namespaces: Store<Namespace>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("namespace-controller").await?;
    let namespaces = ctx.informers.get::<Namespace>();
    let queue = WorkQueue::new();
    let keys = queue.clone();
    namespaces.on_change(move |change| {
        if change.new.as_ref().is_some_and(|namespace| plan::is_going(namespace)) {
            keys.add(change.key());
        }
    });
    namespaces.synced().await;
    let controller = Namespaces { client, namespaces: namespaces.store() };
    let workers = ctx.options.controllers.concurrent_namespace_syncs;
    ctx.run(controller, queue, workers).await;
    Ok(())
}

#[async_trait]
impl Controller for Namespaces {
    type Key = Key;

    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if self.namespaces.get(key).is_none() {
            return Ok(Requeue::No);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = api.get_opt(&key.name).await? else { return Ok(Requeue::No) };
        if !plan::is_going(&namespace) || !plan::is_held(&namespace) {
            return Ok(Requeue::No);
        }
        let outcome = content::delete_all(&self.client, &key.name).await;
        let namespace = self.update_status(&api, namespace, &outcome).await?;
        match plan::next(&outcome) {
            Next::Finalize => match self.finalize(namespace).await {
                Err(error) if is_not_found(&error) => Ok(Requeue::No),
                Err(error) if is_conflict(&error) => Ok(Requeue::Backoff),
                other => other.map(|()| Requeue::No).map_err(Error::from),
            },
            Next::Wait { for_finalizers: true } => Ok(Requeue::After(LOOK_AGAIN_FOR_FINALIZERS)),
            Next::Wait { for_finalizers: false } => Ok(Requeue::After(LOOK_AGAIN)),
            Next::Fail(message) => Err(message.into()),
        }
    }
}

impl Namespaces {
    /// Writes the conditions if they changed; gives the namespace as it is then.
    async fn update_status(
        &self,
        api: &Api<Namespace>,
        namespace: Namespace,
        outcome: &Outcome,
    ) -> Result<Namespace, Error> {
        let wanted = plan::status(&namespace, outcome, Timestamp::now());
        if namespace.status.as_ref() == Some(&wanted) {
            return Ok(namespace);
        }
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let changed = Namespace { status: Some(wanted), ..namespace };
        Ok(api.replace_status(&name, &PostParams::default(), &changed).await?)
    }

    /// Takes our finalizer off; with the last one the namespace is gone.
    async fn finalize(&self, mut namespace: Namespace) -> Result<(), kube::Error> {
        plan::release(&mut namespace);
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.replace_subresource("finalize", &name, &PostParams::default(), &namespace).await.map(drop)
    }
}
