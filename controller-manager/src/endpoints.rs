//! Endpoints of services with selectors: the older form of endpoint slices, kept for those who still read it.

mod plan;

use async_trait::async_trait;
use component_base::client;
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::core::v1::{Endpoints as Object, Pod, Service};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use crate::context::Context;
use crate::service_pods::{self, selected};
use plan::{MANAGED_BY, plan};

struct Endpoints {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Object>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("endpoint-controller").await?;
    let (services, pods) = (ctx.informers.get::<Service>(), ctx.informers.get::<Pod>());
    let endpoints = ctx.informers.get::<Object>();
    let queue = ctx.keys_of(&services);
    let (keys, known) = (queue.clone(), services.store());
    let period = ctx.options.controllers.endpoint_updates_batch_period.0;
    pods.on_change(move |change| service_pods::enqueue_services(change, &known, &keys, period));
    let keys = queue.clone();
    endpoints.on_change(move |change| keys.add(change.key()));
    futures::join!(services.synced(), pods.synced(), endpoints.synced());
    let controller = Endpoints { client, services: services.store(), pods: pods.store(), endpoints: endpoints.store() };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_endpoint_syncs).await;
    Ok(())
}

#[async_trait]
impl Controller for Endpoints {
    type Key = Key;

    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let api: Api<Object> = Api::namespaced(self.client.clone(), &key.namespace);
        let existing = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            let ours = existing.is_some_and(|existing| {
                existing.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(MANAGED_BY))
            });
            return if ours {
                ignore_gone(api.delete(&key.name, &DeleteParams::default()).await)
            } else {
                Ok(Requeue::No)
            };
        };
        if !service_pods::has_selector(&service) || service.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::No);
        }
        let Some(wanted) = plan(&service, &selected(&service, &self.pods), existing.as_deref()) else {
            return Ok(Requeue::No);
        };
        let params = PostParams::default();
        match existing {
            None => match api.create(&params, &wanted).await {
                Err(error) if client::is_namespace_terminating(&error) => Ok(Requeue::No),
                Err(error) => Err(error.into()),
                Ok(_) => Ok(Requeue::No),
            },
            Some(_) => ignore_gone(api.replace(&key.name, &params, &wanted).await),
        }
    }
}

fn ignore_gone<T>(outcome: Result<T, kube::Error>) -> Result<Requeue, Error> {
    client::unless_gone(outcome)?;
    Ok(Requeue::No)
}
