//! EndpointSlices of services with selectors: where their pods answer, in pieces of bounded size.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use component_base::client;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::context::Context;
use crate::expectations::Expectations;
use crate::podcontrol::message;
use crate::service_pods::{self, selected};
use plan::{Action, MANAGED_BY, MANAGER, SERVICE_NAME, plan};

/// Index of our slices by service.
const BY_SERVICE: &str = "service";

struct EndpointSlices {
    client: Client,
    recorder: Recorder,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    expectations: Arc<Expectations>,
    max_endpoints: usize,
}

/// The service whose slice this is, if it is one of ours.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.labels();
    let service =
        labels.get(SERVICE_NAME).filter(|_| labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER))?;
    Some(Key::new(slice.namespace().unwrap_or_default(), service.clone()))
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("endpointslice-controller").await?;
    let recorder = ctx.recorder(&client, "endpoint-slice-controller");
    let (services, pods) = (ctx.informers.get::<Service>(), ctx.informers.get::<Pod>());
    let (nodes, slices) = (ctx.informers.get::<Node>(), ctx.informers.get::<EndpointSlice>());
    slices.add_index(BY_SERVICE, |slice| service_of(slice).iter().map(Key::to_string).collect());
    let queue = WorkQueue::new();
    let expectations = Arc::new(Expectations::default());
    let keys = queue.clone();
    services.on_change(move |change| keys.add(change.key()));
    let (keys, known) = (queue.clone(), services.store());
    let period = ctx.options.controllers.endpointslice_updates_batch_period.0;
    pods.on_change(move |change| service_pods::enqueue_services(change, &known, &keys, period));
    let (keys, expected) = (queue.clone(), Arc::clone(&expectations));
    slices.on_change(move |change| {
        if let Some(key) = change.new.as_deref().and_then(service_of).filter(|_| change.is_added()) {
            expected.creation_observed(&key);
        }
        for key in [&change.old, &change.new].into_iter().flatten().filter_map(|slice| service_of(slice)) {
            keys.add(key);
        }
    });
    futures::join!(services.synced(), pods.synced(), nodes.synced(), slices.synced());
    let controller = EndpointSlices {
        client,
        recorder,
        services: services.store(),
        pods: pods.store(),
        nodes: nodes.store(),
        slices: slices.store(),
        expectations,
        max_endpoints: ctx.options.controllers.max_endpoints_per_slice,
    };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_service_endpoint_syncs).await;
    Ok(())
}

#[async_trait]
impl Controller for EndpointSlices {
    type Key = Key;

    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(service) = self.services.get(key) else {
            // Its slices go with it, by their owner reference.
            self.expectations.forget(key);
            return Ok(Requeue::No);
        };
        if !service_pods::has_selector(&service)
            || service.metadata.deletion_timestamp.is_some()
            || !self.expectations.are_met(key)
        {
            return Ok(Requeue::No);
        }
        let zone = |node: &str| {
            let node = self.nodes.find("", node)?;
            node.labels().get("topology.kubernetes.io/zone").cloned()
        };
        let existing = self.slices.indexed(BY_SERVICE, &key.to_string());
        let actions = plan(&service, &selected(&service, &self.pods), &existing, self.max_endpoints, zone);
        let creations = actions.iter().filter(|action| matches!(action, Action::Create(_))).count();
        self.expectations.expect(key, creations, []);
        let mut outcome = Ok(Requeue::No);
        for action in actions {
            let creates = matches!(action, Action::Create(_));
            if let Err(error) = apply(&self.client, &key.namespace, action).await {
                if creates {
                    self.expectations.creation_observed(key);
                }
                outcome = self.failed(&service, error);
            }
        }
        outcome
    }
}

/// Carries an action out.
pub async fn apply(client: &Client, namespace: &str, action: Action) -> Result<(), kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    match action {
        Action::Create(slice) => api.create(&PostParams::default(), &slice).await.map(drop),
        Action::Update(slice) => api.replace(&slice.name_any(), &PostParams::default(), &slice).await.map(drop),
        Action::Delete(name) => client::unless_gone(api.delete(&name, &DeleteParams::default()).await).map(drop),
    }
}

impl EndpointSlices {
    fn failed(&self, service: &Service, error: kube::Error) -> Result<Requeue, Error> {
        if client::is_namespace_terminating(&error) {
            return Ok(Requeue::No);
        }
        if !client::is_conflict(&error) {
            let note = format!(
                "Error updating Endpoint Slices for Service {}/{}: {}",
                service.namespace().unwrap_or_default(),
                service.name_any(),
                message(&error)
            );
            self.recorder.event(&reference(service), EventType::Warning, "FailedToUpdateEndpointSlices", "", note);
        }
        Err(error.into())
    }
}
