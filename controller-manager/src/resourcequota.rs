//! ResourceQuotas: how much of what they limit is used. That nothing is made beyond them is the API server's to see.

mod usage;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use component_base::informer::{Informer, Informers, Key, Object, Selector, Store};
use component_base::queue::WorkQueue;
use component_base::quota::{Amounts, counted};
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use kube::api::{DynamicObject, PartialObjectMeta};
use parking_lot::Mutex;

use crate::context::Context;
use crate::{discovery, writes};
use usage::{Objects, usage};

/// How long a smaller usage must hold before it is written: an object that the API server let in and counted may not be in the cache yet.
const SETTLE: Duration = Duration::from_millis(300);
/// Between two looks for a resource that is limited and not known.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

type Metadata = PartialObjectMeta<DynamicObject>;

struct Quotas {
    client: Client,
    informers: Informers,
    queue: WorkQueue<Key>,
    quotas: Store<ResourceQuota>,
    pods: Store<Pod>,
    services: Store<Service>,
    claims: Store<PersistentVolumeClaim>,
    /// Those of the resources that quotas count, by name.
    counted: Mutex<HashMap<String, Informer<Metadata>>>,
    /// Usages that went down, to be written if they still hold.
    doubted: Mutex<HashMap<Key, Written>>,
}

type Written = BTreeMap<String, Quantity>;

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("resourcequota-controller").await?;
    let quotas = ctx.informers.get::<ResourceQuota>();
    let (pods, services) = (ctx.informers.get::<Pod>(), ctx.informers.get::<Service>());
    let claims = ctx.informers.get::<PersistentVolumeClaim>();
    let queue = ctx.keys_of(&quotas);
    follow(&pods, &quotas.store(), &queue);
    follow(&services, &quotas.store(), &queue);
    follow(&claims, &quotas.store(), &queue);
    futures::join!(quotas.synced(), pods.synced(), services.synced(), claims.synced());
    let controller = Quotas {
        client,
        informers: ctx.informers.clone(),
        queue: queue.clone(),
        quotas: quotas.store(),
        pods: pods.store(),
        services: services.store(),
        claims: claims.store(),
        counted: Mutex::default(),
        doubted: Mutex::default(),
    };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_resource_quota_syncs).await;
    Ok(())
}

/// Every change in a namespace concerns its quotas.
fn follow<K: Object>(objects: &Informer<K>, quotas: &Store<ResourceQuota>, queue: &WorkQueue<Key>) {
    let (quotas, queue) = (quotas.clone(), queue.clone());
    objects.on_change(move |change| {
        for quota in quotas.list_namespace(&change.key().namespace) {
            queue.add(Key::of(quota.as_ref()));
        }
    });
}

#[async_trait]
impl Controller for Quotas {
    type Key = Key;

    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(quota) = self.quotas.get(key) else {
            self.doubted.lock().remove(key);
            return Ok(Requeue::No);
        };
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let all_known = self.count_also(hard.keys().filter_map(|limit| counted(limit))).await?;
        let used = self.used(&quota, &key.namespace);
        let wanted = ResourceQuotaStatus { hard: Some(hard), used: Some(used.clone()) };
        let old = quota.status.clone().unwrap_or_default();
        let again = if all_known { Requeue::No } else { Requeue::After(LOOK_AGAIN) };
        if old == wanted {
            self.doubted.lock().remove(key);
            return Ok(again);
        }
        if went_down(old.used.as_ref(), &used) && self.doubted.lock().insert(key.clone(), used.clone()) != Some(used) {
            return Ok(Requeue::After(SETTLE));
        }
        self.doubted.lock().remove(key);
        let changed = ResourceQuota { status: Some(wanted), ..(*quota).clone() };
        writes::replace_status(&self.client, &changed).await?;
        Ok(again)
    }
}

fn write(used: Amounts) -> Written {
    used.into_iter().map(|(name, amount)| (name, Quantity(amount.to_string()))).collect()
}

/// Whether less is used of anything than was said.
fn went_down(old: Option<&Written>, new: &Written) -> bool {
    let read = |amount: &Quantity| amount.0.parse::<apimachinery::quantity::Quantity>().ok();
    old.into_iter().flatten().any(|(name, old)| new.get(name).and_then(read) < read(old))
}

impl Quotas {
    /// Begins to count these resources; says whether all of them are known.
    async fn count_also(&self, resources: impl Iterator<Item = &str>) -> Result<bool, Error> {
        let missing: Vec<&str> = resources.filter(|name| !self.counted.lock().contains_key(*name)).collect();
        if missing.is_empty() {
            return Ok(true);
        }
        let known = discovery::deletable(&self.client).await?;
        let mut all_known = true;
        for name in missing {
            let Some(resource) = known.iter().find(|resource| resource.namespaced && resource.name() == name) else {
                all_known = false;
                continue;
            };
            let informer = self.informers.get_dynamic::<Metadata>(&resource.api, Selector::default());
            follow(&informer, &self.quotas, &self.queue);
            informer.synced().await;
            self.counted.lock().insert(name.to_owned(), informer);
        }
        Ok(all_known)
    }

    fn used(&self, quota: &ResourceQuota, namespace: &str) -> Written {
        let (pods, services) = (self.pods.list_namespace(namespace), self.services.list_namespace(namespace));
        let claims = self.claims.list_namespace(namespace);
        let count = |resource: &str| self.count(resource, namespace);
        let objects = Objects { pods: &pods, services: &services, claims: &claims, count: &count };
        write(usage(quota, &objects, Timestamp::now()))
    }

    fn count(&self, resource: &str, namespace: &str) -> Option<usize> {
        let informer = self.counted.lock().get(resource).cloned()?;
        Some(informer.store().list_namespace(namespace).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_of_anything_is_doubted_at_first() {
        let amounts = |pairs: &[(&str, &str)]| -> Written {
            pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
        };
        let old = amounts(&[("cpu", "1500m"), ("pods", "2")]);
        for (new, expected) in [
            (amounts(&[("cpu", "1.5"), ("pods", "2")]), false),
            (amounts(&[("cpu", "1400m"), ("pods", "9")]), true),
            (amounts(&[("cpu", "2"), ("pods", "2")]), false),
        ] {
            assert_eq!(went_down(Some(&old), &new), expected, "{new:?}");
        }
        assert!(!went_down(None, &old));
    }
}
