//! Endpoints that people keep by hand, for services without selectors, as EndpointSlices: for those who read only these.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use component_base::client;
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use kube::{Client, ResourceExt};

use crate::context::Context;
use crate::endpointslice::apply;
use crate::endpointslice::plan::{Action, Frame, Group, MANAGED_BY, SERVICE_NAME, distribute};
use crate::expectations::Expectations;
use crate::ownership;
use crate::service_pods::Port;

/// Who keeps the mirrors.
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label are left alone.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that serve as a lock.
const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";
/// What is said of Endpoints alone.
const OWN_ANNOTATIONS: &[&str] =
    &["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Index of mirrors by the Endpoints that they are of.
const BY_ENDPOINTS: &str = "mirrored";

struct Mirroring {
    client: Client,
    endpoints: Store<Endpoints>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    expectations: Arc<Expectations>,
    max_per_subset: usize,
}

/// The Endpoints that a slice mirrors, if it is a mirror.
fn mirrored(slice: &EndpointSlice) -> Option<Key> {
    let is_ours = slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let name = slice.labels().get(SERVICE_NAME).filter(|_| is_ours)?;
    Some(Key::new(slice.namespace().unwrap_or_default(), name.clone()))
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("endpointslicemirroring-controller").await?;
    let (endpoints, services) = (ctx.informers.get::<Endpoints>(), ctx.informers.get::<Service>());
    let slices = ctx.informers.get::<EndpointSlice>();
    slices.add_index(BY_ENDPOINTS, |slice| mirrored(slice).iter().map(Key::to_string).collect());
    let queue = ctx.keys_of(&endpoints);
    let keys = queue.clone();
    services.on_change(move |change| keys.add(change.key()));
    let expectations = Arc::new(Expectations::default());
    let (keys, expected) = (queue.clone(), Arc::clone(&expectations));
    slices.on_change(move |change| {
        let Some(key) = mirrored(change.object()) else { return };
        if change.is_added() {
            expected.creation_observed(&key);
        }
        keys.add(key);
    });
    futures::join!(endpoints.synced(), services.synced(), slices.synced());
    let controller = Mirroring {
        client,
        endpoints: endpoints.store(),
        services: services.store(),
        slices: slices.store(),
        expectations,
        max_per_subset: ctx.options.controllers.mirroring_max_endpoints_per_subset,
    };
    ctx.run(controller, queue, ctx.options.controllers.mirroring_concurrent_service_endpoint_syncs).await;
    Ok(())
}

/// Whether Endpoints are to be mirrored: kept by hand, for a service that has no selector.
fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let skipped = endpoints.labels().get(SKIP).is_some_and(|value| value == "true");
    let selects = |service: &Service| {
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty())
    };
    !skipped
        && !endpoints.annotations().contains_key(LOCK)
        && endpoints.metadata.deletion_timestamp.is_none()
        && service.is_some_and(|service| !selects(service))
}

/// What to do so that the slices say what the Endpoints say.
fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>], max_per_subset: usize) -> Vec<Action> {
    let mut labels = endpoints.labels().clone();
    labels.retain(|key, _| key != "endpoints.kubernetes.io/managed-by");
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str()));
    let frame = Frame {
        name: endpoints.name_any(),
        namespace: endpoints.namespace(),
        labels,
        annotations: Some(annotations),
        owner: ownership::owner_reference(endpoints),
    };
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        for (family, endpoint) in shown(subset).take(max_per_subset) {
            wanted.entry((family, ports(subset))).or_default().push(endpoint);
        }
    }
    distribute(&frame, wanted, existing, max_per_subset)
}

fn ports(subset: &EndpointSubset) -> Vec<Port> {
    let mut ports: Vec<Port> = subset
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            number: port.port,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

/// The endpoints of a subset with their address families, those that are ready first.
fn shown(subset: &EndpointSubset) -> impl Iterator<Item = (&'static str, Endpoint)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    ready.chain(not_ready).filter_map(|(address, is_ready)| {
        let family = if address.ip.parse::<IpAddr>().ok()?.is_ipv6() { "IPv6" } else { "IPv4" };
        Some((family, endpoint(address, is_ready)))
    })
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[async_trait]
impl Controller for Mirroring {
    type Key = Key;

    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if !self.expectations.are_met(key) {
            return Ok(Requeue::No);
        }
        let existing = self.slices.indexed(BY_ENDPOINTS, &key.to_string());
        let service = self.services.get(key);
        let actions = match self.endpoints.get(key).filter(|found| is_mirrored(found, service.as_deref())) {
            Some(endpoints) => plan(&endpoints, &existing, self.max_per_subset),
            None => existing.iter().map(|slice| Action::Delete(slice.name_any())).collect(),
        };
        let creations = actions.iter().filter(|action| matches!(action, Action::Create(_))).count();
        self.expectations.expect(key, creations, []);
        let mut outcome = Ok(Requeue::No);
        for action in actions {
            let creates = matches!(action, Action::Create(_));
            if let Err(error) = apply(&self.client, &key.namespace, action).await {
                if creates {
                    self.expectations.creation_observed(key);
                }
                if !client::is_namespace_terminating(&error) {
                    outcome = Err(error.into());
                }
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(value: Value) -> Endpoints {
        let mut all = json!({ "metadata": { "name": "db", "namespace": "default", "uid": "e", "labels": { "a": "b" },
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "c": "d" } } });
        all.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn what_is_kept_by_hand_is_mirrored() {
        let service = |selector: Value| -> Service {
            serde_json::from_value(json!({ "spec": { "selector": selector } })).unwrap()
        };
        let meta = |labels: Value, annotations: Value| {
            endpoints(json!({ "metadata": { "labels": labels, "annotations": annotations } }))
        };
        let by_hand = service(Value::Null);
        for (endpoints, service, expected) in [
            (meta(json!({}), json!({})), Some(&by_hand), true),
            (meta(json!({}), json!({})), None, false),
            (meta(json!({}), json!({})), Some(&service(json!({ "a": "b" }))), false),
            (meta(json!({ (SKIP): "true" }), json!({})), Some(&by_hand), false),
            (meta(json!({}), json!({ (LOCK): "{}" })), Some(&by_hand), false),
        ] {
            assert_eq!(is_mirrored(&endpoints, service), expected, "{endpoints:?}");
        }
    }

    #[test]
    fn families_and_ports_are_slices_of_their_own() {
        let subsets = json!([
            { "addresses": [{ "ip": "10.0.0.1", "hostname": "one" }, { "ip": "fd00::1" }], "notReadyAddresses": [{ "ip": "10.0.0.2" }],
              "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }] },
            { "addresses": [{ "ip": "10.0.0.9" }], "ports": [{ "port": 9 }] },
        ]);
        let source = endpoints(json!({ "subsets": subsets }));
        let made: Vec<Arc<EndpointSlice>> = plan(&source, &[], 1000)
            .into_iter()
            .enumerate()
            .map(|(number, action)| match action {
                Action::Create(mut slice) => {
                    slice.metadata.name = Some(format!("db-{number}"));
                    Arc::from(slice)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let text = |slice: &Arc<EndpointSlice>| {
            let endpoints = slice.endpoints.iter().flatten();
            let shown: Vec<String> = endpoints
                .map(|one| format!("{} {:?}", one.addresses[0], one.conditions.as_ref().unwrap().ready.unwrap()))
                .collect();
            format!("{} {}", slice.address_type, shown.join(", "))
        };
        let mut texts: Vec<String> = made.iter().map(text).collect();
        texts.sort();
        assert_eq!(texts, ["IPv4 10.0.0.1 true, 10.0.0.2 false", "IPv4 10.0.0.9 true", "IPv6 fd00::1 true"]);
        assert_eq!(made[0].labels()["a"], "b");
        assert_eq!(made[0].annotations().keys().collect::<Vec<_>>(), ["c"]);
        assert!(plan(&source, &made, 1000).is_empty());
        assert_eq!(plan(&endpoints(json!({})), &made, 1000).len(), 3, "without addresses they go");
    }
}
