//! Ranges of Service addresses: a ServiceCIDR is ready once it is known here, and one that is deleted stays as long as a Service's
//! address would be left without a range (KEP-1880).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::context::Context;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const NAME: &str = "service-cidr-controller";
/// What marks addresses that are held for Services.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// How long it may take until everybody who hands out addresses knows that a range is going.
const GRACE: Duration = Duration::from_secs(10);

struct ServiceCidrs {
    client: Client,
    ranges: Store<ServiceCIDR>,
    addresses: Store<IPAddress>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("service-cidrs-controller").await?;
    let (ranges, addresses) = (ctx.informers.get::<ServiceCIDR>(), ctx.informers.get::<IPAddress>());
    let queue = WorkQueue::new();
    let (keys, store) = (queue.clone(), ranges.store());
    // Whether a range may go depends on the addresses and on the other ranges.
    let add_deleted =
        move || store.list().iter().filter(|range| is_deleted(range)).for_each(|r| keys.add(Key::of(&**r)));
    let (keys, others) = (queue.clone(), add_deleted.clone());
    ranges.on_change(move |change| {
        keys.add(change.key());
        others();
    });
    addresses.on_change(move |_| add_deleted());
    futures::join!(ranges.synced(), addresses.synced());
    let controller = ServiceCidrs { client, ranges: ranges.store(), addresses: addresses.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

/// The next step for a range; its effect brings the step after it.
#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Wait(Duration),
    /// Its finalizers are to be these.
    Finalizers(Vec<String>),
    /// Its condition Ready: whether it is, why not, and what that means.
    Ready(bool, &'static str, &'static str),
}

fn is_deleted(range: &ServiceCIDR) -> bool {
    range.metadata.deletion_timestamp.is_some()
}

fn contains(range: &ServiceCIDR, address: IpAddr) -> bool {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse::<IpNet>().ok()).any(|net| net.contains(&address))
}

/// Whether an address of a Service would have no range without this one.
fn is_needed(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let has_another = |address: &IpAddr| all.iter().any(|other| !is_deleted(other) && contains(other, *address));
    let held = |address: &&Arc<IPAddress>| {
        address
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(MANAGED_BY.0))
            .is_some_and(|by| by == MANAGED_BY.1)
    };
    let ips = addresses.iter().filter(held).filter_map(|address| address.metadata.name.as_ref()?.parse().ok());
    ips.filter(|ip| contains(range, *ip)).any(|ip| !has_another(&ip))
}

fn plan(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>], now: Timestamp) -> Plan {
    let finalizers = range.metadata.finalizers.as_deref().unwrap_or_default();
    let without = || finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
    let is_held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.filter(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str()).next();
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        return match ready {
            _ if !is_held => Plan::Finalizers(without().chain([FINALIZER.to_owned()]).collect()),
            Some("True") => Plan::Nothing,
            _ => Plan::Ready(true, "", "Kubernetes Service CIDR is ready"),
        };
    };
    if !is_held {
        return Plan::Nothing;
    }
    if is_needed(range, all, addresses) {
        let why =
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return if ready == Some("False") { Plan::Nothing } else { Plan::Ready(false, "Terminating", why) };
    }
    let passed = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    match GRACE.saturating_sub(passed) {
        Duration::ZERO => Plan::Finalizers(without().collect()),
        left => Plan::Wait(left),
    }
}

impl ServiceCidrs {
    /// The finalizers count only for the object that they were decided of.
    fn with_finalizers(range: &ServiceCIDR, finalizers: &[String]) -> Patch<Value> {
        let version = &range.metadata.resource_version;
        Patch::Merge(json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}}))
    }

    fn with_condition(ready: bool, reason: &str, message: &str) -> Patch<Value> {
        let status = if ready { "True" } else { "False" };
        let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
        Patch::Apply(
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "status": {"conditions": [condition]}}),
        )
    }
}

#[async_trait]
impl Controller for ServiceCidrs {
    type Key = Key;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(range) = self.ranges.get(key) else { return Ok(Requeue::No) };
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        match plan(&range, &self.ranges.list(), &self.addresses.list(), Timestamp::now()) {
            Plan::Nothing => {}
            Plan::Wait(left) => return Ok(Requeue::After(left)),
            Plan::Finalizers(finalizers) => {
                let patch = Self::with_finalizers(&range, &finalizers);
                unless_gone(api.patch(&key.name, &PatchParams::default(), &patch).await)?;
            }
            Plan::Ready(ready, reason, message) => {
                let patch = Self::with_condition(ready, reason, message);
                unless_gone(api.patch_status(&key.name, &PatchParams::apply(NAME).force(), &patch).await)?;
            }
        }
        Ok(Requeue::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn range(name: &str, cidr: &str, more: Value) -> Arc<ServiceCIDR> {
        let mut object = json!({"metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": [cidr]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(0).to_string()}]}});
        merge(&mut object, more);
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn merge(object: &mut Value, more: Value) {
        match (object, more) {
            (Value::Object(object), Value::Object(more)) => {
                more.into_iter().for_each(|(key, value)| merge(object.entry(key).or_insert(Value::Null), value));
            }
            (object, more) => *object = more,
        }
    }

    fn address(ip: &str) -> Arc<IPAddress> {
        let labels = json!({ MANAGED_BY.0: MANAGED_BY.1 });
        Arc::new(serde_json::from_value(json!({"metadata": {"name": ip, "labels": labels}})).unwrap())
    }

    #[test]
    fn a_range_is_held_and_then_ready() {
        let plan = |more: Value| super::plan(&range("a", "10.0.0.0/24", more), &[], &[], at(0));
        assert_eq!(
            plan(json!({"metadata": {"finalizers": ["x/y"]}})),
            Plan::Finalizers(vec!["x/y".into(), FINALIZER.into()])
        );
        assert_eq!(plan(json!({"status": null})), Plan::Ready(true, "", "Kubernetes Service CIDR is ready"));
        assert_eq!(plan(json!({})), Plan::Nothing);
    }

    #[test]
    fn a_deleted_range_goes_when_every_address_has_another() {
        let deleted = || range("a", "10.0.0.0/24", json!({"metadata": {"deletionTimestamp": at(100).to_string()}}));
        let (used, elsewhere) = (address("10.0.0.7"), address("10.9.0.1"));
        let plan = |others: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>], now: i64| {
            let all: Vec<_> = others.iter().cloned().chain([deleted()]).collect();
            super::plan(&deleted(), &all, addresses, at(now))
        };
        assert!(matches!(plan(&[], std::slice::from_ref(&used), 200), Plan::Ready(false, "Terminating", _)));
        assert_eq!(plan(&[], &[elsewhere], 104), Plan::Wait(Duration::from_secs(6)));
        assert_eq!(plan(&[], &[], 110), Plan::Finalizers(vec![]));
        let wider = range("b", "10.0.0.0/16", json!({}));
        assert_eq!(plan(&[wider], std::slice::from_ref(&used), 110), Plan::Finalizers(vec![]));
        let going = range("b", "10.0.0.0/16", json!({"metadata": {"deletionTimestamp": at(100).to_string()}}));
        assert!(
            matches!(plan(&[going], &[used], 200), Plan::Ready(false, ..)),
            "two that go do not hold for each other"
        );
    }
}
