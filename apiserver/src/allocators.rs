//! Cluster IPs and node ports of Services: allocated with the Service, given back with it, never given twice.
//!
//! A cluster IP is held by an `IPAddress` object of its name (KEP-1880), whose creation fails for all but one; node ports by a
//! bit in `RangeAllocation`s under `/registry/ranges`. What a crash leaves behind is given back by [`Allocators::repair`].
//!
//! Kubernetes documentation, "Service ClusterIP allocation", "Service NodePort".

pub mod plan;
pub mod ports;

use std::sync::Arc;

use apimachinery::field::{self, Path};
use apimachinery::{ApiError, meta, time};
use apiserver_storage::{Object, Store, Written, keys};
use serde_json::{Value, json};

use crate::endpoints::write::{Call, to_stored};
use plan::{Families, Wanted};
use ports::Ports;

/// How many free addresses are tried at random before the range is walked.
const RANDOM_TRIES: usize = 16;
const IP_ADDRESSES: &str = "/registry/ipaddresses/";

/// Hands out addresses and ports.
pub struct Allocators {
    store: Store,
    families: Families,
    ports: Ports,
}

/// What was allocated for a write that is not yet done.
pub struct Allocation<'a> {
    allocators: &'a Allocators,
    addresses: Vec<String>,
    ports: Vec<u16>,
    kept: bool,
}

impl Allocation<'_> {
    /// The write was done.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// The write failed: everything goes back.
    pub async fn release(mut self) {
        self.kept = true;
        self.allocators.give_back(&self.addresses, &self.ports).await;
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        if !(self.kept || self.addresses.is_empty() && self.ports.is_empty()) {
            tracing::debug!(addresses = ?self.addresses, ports = ?self.ports, "an allocation was dropped; repair gives it back");
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

    fn nothing(&self) -> Allocation<'_> {
        Allocation { allocators: self, addresses: Vec::new(), ports: Vec::new(), kept: false }
    }

    fn is_service(call: &Call<'_>) -> bool {
        call.group().is_empty() && call.plural() == "services" && call.info.subresource.is_empty()
    }

    /// Allocates what a new object needs, and writes it into the object.
    ///
    /// # Errors
    /// `Invalid` for an address or a port that is taken or out of range; `InternalError` when none is left.
    pub async fn create(
        &self,
        call: &Call<'_>,
        service: &mut Value,
        dry_run: bool,
    ) -> Result<Allocation<'_>, ApiError> {
        if !Self::is_service(call) {
            return Ok(self.nothing());
        }
        self.allocate(call, service, None, dry_run).await
    }

    /// Allocates what a change of an object needs beyond what it has. What it no longer needs is given back by [`Allocators::repair`]:
    /// the change may still fail, and an address that is given back too early would be given twice.
    pub async fn update(
        &self,
        call: &Call<'_>,
        service: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        if !Self::is_service(call) {
            return Ok(());
        }
        self.allocate(call, service, Some(old), dry_run).await?.keep();
        Ok(())
    }

    /// Gives back what a deleted object had.
    pub async fn deleted(&self, call: &Call<'_>, object: &Object) {
        if Self::is_service(call) {
            let service = object.to_value();
            self.give_back(&plan::addresses(&service), &plan::node_ports(&service)).await;
        }
    }

    async fn allocate(
        &self,
        call: &Call<'_>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Allocation<'_>, ApiError> {
        let mut allocation = self.nothing();
        match self.fill(&mut allocation, call, service, old, dry_run).await {
            Ok(()) => Ok(allocation),
            Err(error) => {
                allocation.release().await;
                Err(error)
            }
        }
    }

    async fn fill(
        &self,
        allocation: &mut Allocation<'_>,
        call: &Call<'_>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        let name = meta::name(service).to_owned();
        let invalid = |error: field::Error| ApiError::invalid("", "Service", &name, &[error]);
        self.families.complete(service, old).map_err(|errors| ApiError::invalid("", "Service", &name, &errors))?;
        for wanted in plan::wanted_addresses(service, old) {
            let address = match &wanted {
                Wanted::Given { index, address } => {
                    let path = Path::new("spec").child("clusterIPs").index(*index);
                    let parsed = self
                        .families
                        .check(address)
                        .map_err(|detail| invalid(field::Error::invalid(&path, vec![address.clone()], detail)))?;
                    if !self.take(call, &name, &parsed.to_string(), dry_run).await? {
                        let detail = format!("failed to allocate IP {address}: provided IP is already allocated");
                        return Err(invalid(field::Error::invalid(&path, vec![address.clone()], detail)));
                    }
                    parsed.to_string()
                }
                Wanted::Any { family, .. } => self.take_any(call, &name, *family, dry_run).await?,
            };
            plan::set_address(service, wanted.index(), &address);
            allocation.addresses.extend((!dry_run).then_some(address));
        }
        for (index, port) in plan::wanted_ports(service, old) {
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            let taken = self.ports.take(port, dry_run).await?;
            let taken =
                taken.map_err(|detail| invalid(field::Error::invalid(&path, port.unwrap_or_default(), detail)))?;
            plan::set_node_port(service, index, taken);
            allocation.ports.extend((!dry_run && !allocation.ports.contains(&taken)).then_some(taken));
        }
        Ok(())
    }

    async fn take_any(
        &self,
        call: &Call<'_>,
        owner: &str,
        family: plan::Family,
        dry_run: bool,
    ) -> Result<String, ApiError> {
        for candidate in self.families.candidates(family, RANDOM_TRIES) {
            let address = candidate.to_string();
            if self.store.cache().get(&format!("{IP_ADDRESSES}{address}")).is_none()
                && self.take(call, owner, &address, dry_run).await?
            {
                return Ok(address);
            }
        }
        Err(ApiError::internal("failed to allocate a serviceIP: range is full"))
    }

    /// Takes an address; false when it is taken.
    async fn take(&self, call: &Call<'_>, owner: &str, address: &str, dry_run: bool) -> Result<bool, ApiError> {
        let key = format!("{IP_ADDRESSES}{address}");
        if dry_run {
            return Ok(self.store.cache().get(&key).is_none());
        }
        let object = ip_address(address, &call.info.namespace, owner);
        Ok(matches!(self.store.create(&key, to_stored(object)?, None).await?, Written::Done(_)))
    }

    async fn give_back(&self, addresses: &[String], ports: &[u16]) {
        for address in addresses {
            if let Err(error) = self.drop_address(address).await {
                tracing::warn!(address, %error, "an address cannot be given back now; repair will");
            }
        }
        if let Err(error) = self.ports.give_back(ports).await {
            tracing::warn!(?ports, %error, "node ports cannot be given back now; repair will");
        }
    }

    async fn drop_address(&self, address: &str) -> Result<(), ApiError> {
        let key = format!("{IP_ADDRESSES}{address}");
        while let Some(object) = self.store.get_from_etcd(&key).await? {
            if matches!(self.store.delete(&object).await?, Written::Done(_)) {
                break;
            }
        }
        Ok(())
    }

    /// Makes what is allocated equal to what the Services have: after a crash, or a change behind the server's back.
    pub async fn repair(&self) -> Result<(), ApiError> {
        self.store.consistent().await?;
        let snapshot = self.store.cache().snapshot();
        let services: Vec<Arc<Object>> = snapshot.range(&keys::builtin_prefix("", "services"), None).cloned().collect();
        let mut used = std::collections::HashSet::new();
        let mut ports = Vec::new();
        for service in &services {
            let value = service.to_value();
            for address in plan::addresses(&value) {
                let key = format!("{IP_ADDRESSES}{address}");
                if snapshot.get(&key).is_none() {
                    let object = ip_address(&address, service.namespace(), service.name());
                    let written = self.store.create(&key, to_stored(object)?, None).await?;
                    tracing::info!(
                        address,
                        created = matches!(written, Written::Done(_)),
                        "the address of a service was not allocated"
                    );
                }
                used.insert(address);
            }
            ports.extend(plan::node_ports(&value));
        }
        for held in snapshot.range(IP_ADDRESSES, None).filter(|held| !used.contains(held.name())) {
            // A Service that is being created holds its address before it is there itself.
            if is_old(held) {
                self.drop_address(held.name()).await?;
                tracing::info!(address = held.name(), "an allocated address that no service has was given back");
            }
        }
        self.ports.reset(&ports).await
    }
}

fn ip_address(address: &str, namespace: &str, name: &str) -> Value {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": time::now_rfc3339(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
}

/// Whether an object was created a minute ago or earlier.
fn is_old(object: &Object) -> bool {
    let created = object.text(&["metadata", "creationTimestamp"]);
    let created = created.and_then(|text| time::Moment::parse(&text));
    created.is_none_or(|created| time::Moment::now().seconds - created.seconds > 60)
}
