//! Chains of one Service port alone, for what the shared chains cannot do.

use super::names::{self, MARK_FOR_MASQUERADE, own};
use super::service::Builder;
use crate::ruleset::{Key, Name, Value};
use crate::select::{Backend, Selection};
use crate::view::Family;

/// The chain for a cluster IP with session affinity.
pub(super) fn cluster_ip_chain(b: &mut Builder<'_>, backends: &[Backend], affinity: u32) -> Name {
    let id = names::service_port(&b.service.name, b.port);
    let balance = affine(b, &id, backends, affinity);
    let name = own("service", &id);
    let mut rules: Vec<String> = b.masquerade_cluster_ip().into_iter().collect();
    rules.extend(balance);
    b.chain(name.clone(), rules);
    name
}

/// The chain for everything that leads to the port from outside; `None` if the shared chains serve it, or if there is
/// no endpoint for anyone.
pub(super) fn external_chain(b: &mut Builder<'_>, selection: &Selection) -> Option<Name> {
    let local = b.service.external_local;
    if (!local && b.service.affinity.is_none()) || (selection.cluster.is_empty() && selection.local.is_empty()) {
        return None;
    }
    let id = names::service_port(&b.service.name, b.port);
    let mut rules = Vec::new();
    if local {
        // What starts in the cluster would reach all endpoints by the cluster IP, so it may here too (KEP-1669).
        if !selection.cluster.is_empty() {
            let all = balance_chain(b, "all", &id, &selection.cluster);
            rules.extend(b.policy.if_local(b.family, b.node).map(|pods| format!("{pods} goto {all}")));
            rules.push(format!("fib saddr type local jump {MARK_FOR_MASQUERADE}"));
            rules.push(format!("fib saddr type local goto {all}"));
        }
        rules.extend(balance(b, &id, &selection.local));
    } else {
        rules.push(format!("jump {MARK_FOR_MASQUERADE}"));
        rules.extend(balance(b, &id, &selection.cluster));
    }
    let name = own("external", &id);
    b.chain(name.clone(), rules);
    Some(name)
}

fn balance_chain(b: &mut Builder<'_>, prefix: &'static str, id: &str, backends: &[Backend]) -> Name {
    let rules = balance(b, id, backends);
    let name = own(prefix, id);
    b.chain(name.clone(), rules);
    name
}

fn balance(b: &mut Builder<'_>, id: &str, backends: &[Backend]) -> Vec<String> {
    if backends.is_empty() {
        return Vec::new();
    }
    match b.service.affinity {
        Some(seconds) => affine(b, id, backends, seconds),
        None => vec![random(b, backends)],
    }
}

fn random(b: &Builder<'_>, backends: &[Backend]) -> String {
    let ip = b.family.nft();
    let targets: Vec<String> =
        backends.iter().enumerate().map(|(n, e)| format!("{n} : {} . {}", e.ip, e.port)).collect();
    format!(
        "meta l4proto {} dnat {ip} to numgen random mod {} map {{ {} }}",
        b.port.protocol.number(),
        backends.len(),
        targets.join(", ")
    )
}

/// A client that an endpoint's set remembers goes there again; one that none remembers is given an endpoint.
fn affine(b: &mut Builder<'_>, id: &str, backends: &[Backend], seconds: u32) -> Vec<String> {
    let ip = b.family.nft();
    let mut rules = Vec::with_capacity(backends.len() + 1);
    let mut choices = Vec::with_capacity(backends.len());
    for (number, backend) in backends.iter().enumerate() {
        let (chain, set) = endpoint_chain(b, id, backend, seconds);
        rules.push(format!("{ip} saddr @{set} goto {chain}"));
        choices.push(format!("{number} : goto {chain}"));
    }
    rules.push(format!("numgen random mod {} vmap {{ {} }}", backends.len(), choices.join(", ")));
    rules
}

/// The chain that leads to one endpoint, and the set of the clients that belong to it. The timeout is part of the
/// set's name, because a set cannot change it.
fn endpoint_chain(b: &mut Builder<'_>, id: &str, backend: &Backend, seconds: u32) -> (Name, Name) {
    let ip = b.family.nft();
    let endpoint = names::endpoint(id, backend);
    let chain = own("endpoint", &endpoint);
    let set = own("affinity", &format!("{seconds}s-{endpoint}"));
    let address = match b.family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let definition = format!("type {address} ; flags dynamic, timeout ; timeout {seconds}s");
    b.plan.objects.push((Key::Set(b.family, set.clone()), Value::Set { map: false, definition }));
    let target = match b.family {
        Family::V4 => format!("{}:{}", backend.ip, backend.port),
        Family::V6 => format!("[{}]:{}", backend.ip, backend.port),
    };
    let protocol = b.port.protocol.number();
    b.chain(
        chain.clone(),
        vec![format!("update @{set} {{ {ip} saddr }}"), format!("meta l4proto {protocol} dnat {ip} to {target}")],
    );
    (chain, set)
}
