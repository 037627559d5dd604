//! Cluster IPs and node ports of Services: allocated with the Service, given back with it, never given twice.
//!
//! A cluster IP is held by an `IPAddress` object of its name (KEP-1880), whose creation fails for all but one; node ports by a
//! bit in `RangeAllocation`s under `/registry/ranges`. What a crash leaves behind is given back by [`Allocators::repair`].
//!
//! Kubernetes documentation, "Service ClusterIP allocation", "Service NodePort".

pub mod node_ports;
pub mod plan;
pub mod ports;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::field::{self, Path};
use apimachinery::{ApiError, meta, time};
use apiserver_registry::services;
use apiserver_storage::{Object, Store, Written, keys};
use serde_json::{Value, json};

use crate::endpoints::write::{Call, to_stored};
use plan::{Families, Wanted};
use ports::Ports;

/// How many free addresses are tried at random before the range is walked.
const RANDOM_TRIES: usize = 16;
const IP_ADDRESSES: &str = "/registry/ipaddresses/";
/// What marks addresses that are held for Services, and not by someone else.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// Longer than a request takes: what was taken earlier, and no Service has, is left from one that failed.
const IN_FLIGHT: Duration = Duration::from_secs(180);

/// Hands out addresses and ports.
pub struct Allocators {
    store: Store,
    families: Families,
    ports: Ports,
}

/// What was taken for a write that is not yet done, and what the write will leave to others.
pub struct Allocation<'a> {
    allocators: &'a Allocators,
    owner: Owner,
    taken: Share,
    freed: Share,
    settled: bool,
}

/// Addresses and node ports.
#[derive(Debug, Default)]
struct Share {
    addresses: Vec<String>,
    ports: Vec<u16>,
}

impl Share {
    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty()
    }
}

/// The Service that holds something, and since when its request has been under way.
struct Owner {
    namespace: String,
    name: String,
    since: i64,
}

impl Owner {
    fn of(call: &Call<'_>, name: &str) -> Self {
        Owner { namespace: call.info.namespace.clone(), name: name.to_owned(), since: ports::now() }
    }
}

impl Allocation<'_> {
    /// The write was done: what it left goes back.
    pub async fn keep(mut self) {
        self.settled = true;
        self.allocators.give_back(&self.owner, &self.freed, &[]).await;
    }

    /// The write failed: what was taken goes back.
    pub async fn release(mut self) {
        self.settled = true;
        self.allocators.give_back(&self.owner, &self.taken, &self.taken.ports).await;
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        if !(self.settled || self.taken.is_empty() && self.freed.is_empty()) {
            tracing::debug!(taken = ?self.taken, freed = ?self.freed, "an allocation was dropped; repair settles it");
        }
    }
}

impl Allocators {
    pub fn new(store: Store, families: Families, node_ports: std::ops::RangeInclusive<u16>) -> Self {
        Allocators { ports: Ports::new(store.clone(), node_ports), store, families }
    }

    /// The address of the `kubernetes` Service.
    pub fn first_address(&self) -> std::net::IpAddr {
        self.families.first_address()
    }

    fn is_service(call: &Call<'_>) -> bool {
        call.group().is_empty() && call.plural() == "services" && call.info.subresource.is_empty()
    }

    /// Allocates what a Service needs beyond what it has as `old`, and writes it into the object. None for other kinds.
    ///
    /// A trial takes nothing.
    ///
    /// # Errors
    /// `Invalid` for an address or a port that is taken or out of range; `InternalError` when none is left.
    pub async fn allocate(
        &self,
        call: &Call<'_>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Option<Allocation<'_>>, ApiError> {
        if !Self::is_service(call) {
            return Ok(None);
        }
        let owner = Owner::of(call, meta::name(service));
        let (taken, freed) = (Share::default(), Share::default());
        let mut allocation = Allocation { allocators: self, owner, taken, freed, settled: false };
        match self.fill(&mut allocation, service, old, dry_run).await {
            Ok(()) => Ok(Some(allocation)),
            Err(error) => {
                allocation.release().await;
                Err(error)
            }
        }
    }

    /// Gives back what a deleted object had.
    pub async fn deleted(&self, call: &Call<'_>, object: &Object) {
        if Self::is_service(call) {
            let service = object.to_value();
            let had = Share { addresses: plan::addresses(&service), ports: node_ports::of(&service) };
            self.give_back(&Owner::of(call, object.name()), &had, &[]).await;
        }
    }

    async fn fill(
        &self,
        allocation: &mut Allocation<'_>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        let name = meta::name(service).to_owned();
        let invalid = |errors: &[field::Error]| ApiError::invalid("", "Service", &name, errors);
        services::normalize_cluster_ips(service, old);
        self.families.complete(service, old).map_err(|errors| invalid(&errors))?;
        for wanted in plan::wanted_addresses(service, old) {
            let address = match &wanted {
                Wanted::Given { address, .. } => {
                    let path = Path::new("spec").child("clusterIPs");
                    let refused = |why: String| {
                        let detail = format!("failed to allocate IP {address}: {why}");
                        invalid(&[field::Error::invalid(&path, service["spec"]["clusterIPs"].clone(), detail)])
                    };
                    let parsed = self.families.check(address).map_err(refused)?.to_string();
                    if !dry_run && !self.take(&allocation.owner, &parsed).await? {
                        return Err(refused("provided IP is already allocated".into()));
                    }
                    parsed
                }
                Wanted::Any { family, .. } => self.take_any(&allocation.owner, *family, dry_run).await?,
            };
            plan::set_address(service, wanted.index(), &address);
            allocation.taken.addresses.extend((!dry_run).then_some(address));
        }
        let (filled, ports) = self.ports.allocate(service, old, dry_run).await?;
        *service = filled;
        allocation.taken.ports = ports;
        if let Some(old) = old.filter(|_| !dry_run) {
            allocation.freed =
                Share { addresses: plan::freed_addresses(service, old), ports: node_ports::freed(service, old) };
        }
        Ok(())
    }

    async fn take_any(&self, owner: &Owner, family: plan::Family, dry_run: bool) -> Result<String, ApiError> {
        for candidate in self.families.candidates(family, RANDOM_TRIES) {
            let address = candidate.to_string();
            let free = self.store.cache().get(&address_key(&address)).is_none();
            if free && (dry_run || self.take(owner, &address).await?) {
                return Ok(address);
            }
        }
        Err(ApiError::internal("failed to allocate a serviceIP: range is full"))
    }

    /// Takes an address; false when it is taken.
    async fn take(&self, owner: &Owner, address: &str) -> Result<bool, ApiError> {
        let object = ip_address(address, &owner.namespace, &owner.name);
        Ok(matches!(self.store.create(&address_key(address), to_stored(object)?, None).await?, Written::Done(_)))
    }

    /// `own`: ports that the request took itself.
    async fn give_back(&self, owner: &Owner, share: &Share, own: &[u16]) {
        for address in &share.addresses {
            if let Err(error) = self.drop_address(address, owner).await {
                tracing::warn!(address, %error, "an address cannot be given back now; repair will");
            }
        }
        if let Err(error) = self.ports.give_back(&share.ports, own, owner.since).await {
            tracing::warn!(ports = ?share.ports, %error, "node ports cannot be given back now; repair will");
        }
    }

    /// Gives an address back, if it is its owner's still.
    async fn drop_address(&self, address: &str, owner: &Owner) -> Result<(), ApiError> {
        while let Some(object) = self.store.get_from_etcd(&address_key(address)).await? {
            let value = object.to_value();
            let parent = &value["spec"]["parentRef"];
            let owned = parent["namespace"] == owner.namespace.as_str() && parent["name"] == owner.name.as_str();
            if !owned || matches!(self.store.delete(&object).await?, Written::Done(_)) {
                break;
            }
        }
        Ok(())
    }

    /// Makes what is allocated equal to what the Services have: after a crash, or a change behind the server's back. What a request
    /// under way has taken stays.
    pub async fn repair(&self) -> Result<(), ApiError> {
        self.store.consistent().await?;
        let snapshot = self.store.cache().snapshot();
        let services: Vec<Arc<Object>> = snapshot.range(&keys::builtin_prefix("", "services"), None).cloned().collect();
        let (mut used, mut ports) = (HashSet::new(), Vec::new());
        for service in &services {
            let value = service.to_value();
            for address in plan::addresses(&value) {
                if snapshot.get(&address_key(&address)).is_none() {
                    self.hold(&address, service).await?;
                }
                used.insert(address);
            }
            ports.extend(node_ports::of(&value));
        }
        for held in snapshot.range(IP_ADDRESSES, None).filter(|held| !used.contains(held.name()) && is_left(held)) {
            // As it was in the snapshot: whoever has it now keeps it.
            let given_back = matches!(self.store.delete(held).await?, Written::Done(_));
            tracing::info!(address = held.name(), given_back, "an address is allocated that no service has");
        }
        self.ports.repair(&ports, IN_FLIGHT).await
    }

    /// Takes an address for the Service that has it.
    async fn hold(&self, address: &str, service: &Object) -> Result<(), ApiError> {
        let object = ip_address(address, service.namespace(), service.name());
        let written = self.store.create(&address_key(address), to_stored(object)?, None).await?;
        let created = matches!(written, Written::Done(_));
        tracing::info!(address, created, "the address of a service was not allocated");
        Ok(())
    }
}

fn address_key(address: &str) -> String {
    format!("{IP_ADDRESSES}{address}")
}

fn ip_address(address: &str, namespace: &str, name: &str) -> Value {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": time::now_rfc3339(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, (MANAGED_BY.0): MANAGED_BY.1},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    })
}

/// Whether an address is held for a Service, and was taken longer ago than a request takes.
fn is_left(object: &Object) -> bool {
    let managed = object.to_value()["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1;
    let created = object.text(&["metadata", "creationTimestamp"]);
    let created = created.and_then(|text| time::Moment::parse(&text));
    let age = created.map(|created| time::Moment::now().seconds - created.seconds);
    managed && age.is_none_or(|age| age > IN_FLIGHT.as_secs() as i64)
}
