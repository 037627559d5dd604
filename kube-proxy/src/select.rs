//! Which endpoints a Service port leads to, for traffic that may go anywhere and for traffic that must stay on
//! this node: readiness, terminating endpoints (KEP-1669), and topology hints (KEP-2433, KEP-3015).

use crate::view::{Endpoint, Family, Node, ServicePort, ServiceView, SliceView};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One place that traffic can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    pub ip: IpAddr,
    pub port: u16,
    /// It may be on this node, so that its own traffic may come back to it.
    pub here: bool,
}

/// The endpoints of one Service port, in a stable order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// For traffic under policy `Cluster`.
    pub cluster: Vec<Backend>,
    /// For traffic under policy `Local`.
    pub local: Vec<Backend>,
    /// Whether there is any usable endpoint in the cluster: says if traffic without one is rejected or dropped.
    pub any: bool,
}

pub fn select(
    service: &ServiceView,
    port: &ServicePort,
    slices: &[&SliceView],
    family: Family,
    node: &Node,
) -> Selection {
    let candidates = candidates(port, slices, family);
    let mut selection = Selection::default();
    if service.uses_cluster_endpoints() {
        let topology = Topology::from_hints(&candidates, node);
        let ready = |e: &Endpoint| e.ready && topology.allows(e, node);
        selection.cluster = or_terminating(&candidates, node, ready, |_| true);
        selection.any = !selection.cluster.is_empty();
    }
    if service.uses_local_endpoints() {
        let here = |e: &Endpoint| is_local(e, node);
        selection.local = or_terminating(&candidates, node, |e| e.ready && here(e), here);
        selection.any |= candidates.values().any(|e| e.ready || draining(e));
    }
    selection
}

type Candidates<'a> = BTreeMap<(IpAddr, u16), &'a Endpoint>;

/// Every endpoint once: where two slices name it, the one that calls it ready wins.
fn candidates<'a>(port: &ServicePort, slices: &[&'a SliceView], family: Family) -> Candidates<'a> {
    let mut all = Candidates::new();
    let name = (port.name.clone(), port.protocol);
    for slice in slices.iter().filter(|s| s.family == family) {
        let Some(number) = slice.ports.get(&name) else { continue };
        for endpoint in &slice.endpoints {
            let known = all.entry((endpoint.address, *number)).or_insert(endpoint);
            if endpoint.ready && !known.ready {
                *known = endpoint;
            }
        }
    }
    all
}

/// The ready ones, or if there are none, those that still serve while they terminate.
fn or_terminating(
    candidates: &Candidates<'_>,
    node: &Node,
    ready: impl Fn(&Endpoint) -> bool,
    reachable: impl Fn(&Endpoint) -> bool,
) -> Vec<Backend> {
    let chosen = backends(candidates, node, ready);
    if !chosen.is_empty() {
        return chosen;
    }
    backends(candidates, node, |e| draining(e) && reachable(e))
}

fn backends(candidates: &Candidates<'_>, node: &Node, keep: impl Fn(&Endpoint) -> bool) -> Vec<Backend> {
    let kept = candidates.iter().filter(|(_, e)| keep(e));
    kept.map(|((ip, port), e)| Backend { ip: *ip, port: *port, here: e.node.is_none() || is_local(e, node) }).collect()
}

fn draining(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

fn is_local(endpoint: &Endpoint, node: &Node) -> bool {
    endpoint.node.as_deref() == Some(node.name.as_str())
}

/// How far the hints let traffic go. Hints only count if every ready endpoint has one and one of them names us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    Anywhere,
    SameZone,
    SameNode,
}

impl Topology {
    fn from_hints(candidates: &Candidates<'_>, node: &Node) -> Self {
        let ready: Vec<&Endpoint> = candidates.values().copied().filter(|e| e.ready).collect();
        let usable = |hints: fn(&Endpoint) -> &Vec<String>, ours: &str| {
            ready.iter().all(|e| !hints(e).is_empty()) && ready.iter().any(|e| hints(e).iter().any(|h| h == ours))
        };
        if usable(|e| &e.nodes, &node.name) {
            return Self::SameNode;
        }
        match &node.zone {
            Some(zone) if usable(|e| &e.zones, zone) => Self::SameZone,
            _ => Self::Anywhere,
        }
    }

    fn allows(self, endpoint: &Endpoint, node: &Node) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameZone => node.zone.as_ref().is_some_and(|z| endpoint.zones.contains(z)),
            Self::SameNode => endpoint.nodes.contains(&node.name),
        }
    }
}

#[cfg(test)]
mod tests;
