//! The state between the API and the kernel: what is known of the cluster, which Services have to be planned again, and
//! what the kernel was told. No I/O: `plan` says what to send, and `failed` is told if it did not work.

use crate::conntrack::{Cut, cuts};
use crate::plan::{self, Policy, ServicePlan, UdpFrontend};
use crate::ruleset::{Owner, Ruleset};
use crate::transaction::Transaction;
use crate::view::{Family, Node, ServiceName, ServiceView, SliceView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// Namespace and name of an EndpointSlice.
pub type SliceName = (String, String);

/// What one synchronization has to do, in this order.
#[derive(Debug, Default)]
pub struct Sync {
    pub transaction: Transaction,
    pub cuts: Vec<Cut>,
}

/// What the load balancer's health check of a Service is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHealth {
    pub service: ServiceName,
    pub port: u16,
    pub local_endpoints: usize,
}

pub struct Proxier {
    families: Vec<Family>,
    policy: Policy,
    node: Node,
    /// All addresses of the machine, for `--nodeport-addresses`.
    interfaces: Vec<IpAddr>,
    services: HashMap<ServiceName, ServiceView>,
    slices: HashMap<SliceName, SliceView>,
    slices_of: HashMap<ServiceName, BTreeSet<SliceName>>,
    ruleset: Ruleset,
    udp: HashMap<ServiceName, Vec<UdpFrontend>>,
    health: BTreeMap<ServiceName, LocalHealth>,
    dirty: BTreeSet<ServiceName>,
    base_dirty: bool,
    /// The kernel's tables are not known to be ours: the next transaction replaces them.
    rebuild: bool,
}

impl Proxier {
    pub fn new(families: Vec<Family>, policy: Policy, node: Node, interfaces: Vec<IpAddr>) -> Self {
        Self {
            families,
            policy,
            node,
            interfaces,
            services: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            ruleset: Ruleset::default(),
            udp: HashMap::new(),
            health: BTreeMap::new(),
            dirty: BTreeSet::new(),
            base_dirty: true,
            rebuild: true,
        }
    }

    /// A Service as it is now; `None` if it is gone, or is not for this proxy. Says if there is anything to do.
    pub fn set_service(&mut self, name: &ServiceName, view: Option<ServiceView>) -> bool {
        if self.services.get(name) == view.as_ref() {
            return false;
        }
        match view {
            Some(view) => self.services.insert(name.clone(), view),
            None => self.services.remove(name),
        };
        self.dirty.insert(name.clone());
        true
    }

    /// An EndpointSlice as it is now; `None` if it is gone, or belongs to no Service. Says if there is anything to do.
    pub fn set_slice(&mut self, name: &SliceName, view: Option<SliceView>) -> bool {
        if self.slices.get(name) == view.as_ref() {
            return false;
        }
        let mut touched = Vec::new();
        if let Some(old) = self.slices.remove(name) {
            if let Some(names) = self.slices_of.get_mut(&old.service) {
                names.remove(name);
                if names.is_empty() {
                    self.slices_of.remove(&old.service);
                }
            }
            touched.push(old.service);
        }
        if let Some(new) = view {
            touched.push(new.service.clone());
            self.slices_of.entry(new.service.clone()).or_default().insert(name.clone());
            self.slices.insert(name.clone(), new);
        }
        touched.retain(|service| self.services.contains_key(service));
        let changed = !touched.is_empty();
        self.dirty.extend(touched);
        changed
    }

    /// The node as it is now. Its labels, addresses and pod ranges can change every Service's rules.
    pub fn set_node(&mut self, node: Node) -> bool {
        if node == self.node {
            return false;
        }
        self.node = node;
        self.base_dirty = true;
        self.dirty.extend(self.services.keys().cloned());
        true
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn is_dirty(&self) -> bool {
        self.base_dirty || self.rebuild || !self.dirty.is_empty()
    }

    /// Plans what changed, and takes the result as done.
    pub fn plan(&mut self) -> Sync {
        if std::mem::take(&mut self.base_dirty) {
            let base = self.families.iter().flat_map(|f| plan::base(*f, &self.policy, &self.node, &self.interfaces));
            let base = base.collect();
            self.ruleset.replace(&Owner::Base, base);
        }
        let mut cut = Vec::new();
        for name in std::mem::take(&mut self.dirty) {
            cut.extend(self.plan_service(name));
        }
        let transaction = match std::mem::take(&mut self.rebuild) {
            true => self.ruleset.rebuild(&self.families),
            false => self.ruleset.take_changes(),
        };
        Sync { transaction, cuts: cut }
    }

    fn plan_service(&mut self, name: ServiceName) -> Vec<Cut> {
        let service = self.services.get(&name);
        let plan = service.map(|s| self.service_plan(s));
        let health_port = service.and_then(|s| s.health_check_node_port);
        let before = self.udp.remove(&name).unwrap_or_default();
        let Some(plan) = plan else {
            self.health.remove(&name);
            self.ruleset.replace(&Owner::Service(name), Vec::new());
            return cuts(&before, &[]);
        };
        self.ruleset.replace(&Owner::Service(name.clone()), plan.objects);
        match health_port {
            Some(port) => {
                let local_endpoints = plan.local_endpoints;
                self.health.insert(name.clone(), LocalHealth { service: name.clone(), port, local_endpoints });
            }
            None => {
                self.health.remove(&name);
            }
        }
        let cut = cuts(&before, &plan.udp);
        self.udp.insert(name, plan.udp);
        cut
    }

    fn service_plan(&self, service: &ServiceView) -> ServicePlan {
        let names = self.slices_of.get(&service.name);
        let slices: Vec<&SliceView> = names.into_iter().flatten().filter_map(|n| self.slices.get(n)).collect();
        plan::service(service, &slices, &self.policy, &self.node, &self.families)
    }

    /// The kernel did not take the last transaction: the next one replaces everything.
    pub fn failed(&mut self) {
        self.rebuild = true;
    }

    /// All ways in by UDP, for flows that were there before this process.
    pub fn udp_frontends(&self) -> impl Iterator<Item = &UdpFrontend> {
        self.udp.values().flatten()
    }

    /// The health check node ports that have to be served.
    pub fn local_health(&self) -> Vec<LocalHealth> {
        self.health.values().cloned().collect()
    }

    /// How many Services and EndpointSlices are known.
    pub fn size(&self) -> (usize, usize) {
        (self.services.len(), self.slices.len())
    }
}

#[cfg(test)]
mod tests;
