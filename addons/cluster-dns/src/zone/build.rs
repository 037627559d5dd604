//! Keeping the zone: Services and EndpointSlices come, change and go.

use super::{Kind, Service, ServiceName, Slice, SliceName, Zone};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Zone {
    /// A Service as it is now; `None` if it is gone or has no address.
    pub fn set_service(&mut self, name: &ServiceName, service: Option<Service>) {
        if self.services.get(name) == service.as_ref() {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        if let Some(old) = self.services.remove(name) {
            self.forget(&cluster_ips(&old), name);
            if let Some(count) = self.namespaces.get_mut(&name.namespace) {
                *count -= 1;
                if *count == 0 {
                    self.namespaces.remove(&name.namespace);
                }
            }
        }
        if let Some(new) = service {
            for ip in cluster_ips(&new) {
                self.by_ip.entry(ip).or_default().insert(name.clone());
            }
            *self.namespaces.entry(name.namespace.clone()).or_default() += 1;
            self.services.insert(name.clone(), new);
        }
    }

    /// An EndpointSlice as it is now; `None` if it is gone or belongs to no Service.
    pub fn set_slice(&mut self, name: &SliceName, slice: Option<Slice>) {
        if self.slices.get(name) == slice.as_ref() {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        if let Some(old) = self.slices.remove(name) {
            if let Some(names) = self.slices_of.get_mut(&old.service) {
                names.remove(name);
                if names.is_empty() {
                    self.slices_of.remove(&old.service);
                }
            }
            self.forget(&endpoint_ips(&old), &old.service);
        }
        if let Some(new) = slice {
            for ip in endpoint_ips(&new) {
                self.by_ip.entry(ip).or_default().insert(new.service.clone());
            }
            self.slices_of.entry(new.service.clone()).or_default().insert(name.clone());
            self.slices.insert(name.clone(), new);
        }
    }

    /// Takes a Service off addresses, except those that it still has by something else.
    fn forget(&mut self, ips: &[IpAddr], service: &ServiceName) {
        let kept: BTreeSet<IpAddr> = self.ips_of(service).collect();
        for ip in ips.iter().filter(|ip| !kept.contains(ip)) {
            if let Some(services) = self.by_ip.get_mut(ip) {
                services.remove(service);
                if services.is_empty() {
                    self.by_ip.remove(ip);
                }
            }
        }
    }

    fn ips_of(&self, service: &ServiceName) -> impl Iterator<Item = IpAddr> {
        let own = self.services.get(service).map(cluster_ips).unwrap_or_default();
        let names = self.slices_of.get(service).into_iter().flatten();
        own.into_iter().chain(names.filter_map(|n| self.slices.get(n)).flat_map(endpoint_ips))
    }

    /// The slices of a Service, in a stable order.
    pub(super) fn slices_of(&self, service: &ServiceName) -> impl Iterator<Item = &Slice> {
        self.slices_of.get(service).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    match &service.kind {
        Kind::ClusterIp(ips) => ips.clone(),
        Kind::Headless | Kind::ExternalName(_) => Vec::new(),
    }
}

fn endpoint_ips(slice: &Slice) -> Vec<IpAddr> {
    slice.endpoints.iter().flat_map(|e| e.addresses.iter().copied()).collect()
}
