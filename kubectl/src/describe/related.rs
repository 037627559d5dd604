//! What else than the object itself a description shows.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::{Call, Client};
use crate::error::{Error, Result};
use crate::fields::{self, Fields};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Something to ask for about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    Events,
    /// The pods that its selector selects.
    PodsOfSelector,
    /// The pods of its namespace.
    Pods,
    /// The pods that have not ended on the node.
    PodsOnNode,
    /// The node's lease.
    Lease,
    /// The replica sets that the deployment's selector selects.
    ReplicaSets,
    /// Those of the service.
    EndpointSlices,
    /// Those of the namespace.
    AllEndpointSlices,
    Services,
    Secrets,
    /// Those of the namespace that it is.
    Quotas,
    /// Those of the namespace that it is.
    LimitRanges,
}

/// What the server said.
#[derive(Debug, Default)]
pub struct Related(BTreeMap<Wanted, Result<Vec<Value>>>);

impl Related {
    /// What was found.
    ///
    /// # Errors
    /// What the server said instead.
    pub fn found(&self, wanted: Wanted) -> std::result::Result<&[Value], &Error> {
        match self.0.get(&wanted) {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(error),
            None => Ok(&[]),
        }
    }

    /// Fails where the server did not answer.
    ///
    /// # Errors
    /// What the server said instead.
    pub fn need(&mut self, wanted: Wanted) -> Result<()> {
        match self.0.get(&wanted) {
            Some(Err(_)) => self.0.remove(&wanted).unwrap_or_else(|| Ok(Vec::new())).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// With something found, for tests.
    #[cfg(test)]
    pub fn with(mut self, wanted: Wanted, found: Vec<Value>) -> Self {
        self.0.insert(wanted, Ok(found));
        self
    }
}

/// Asks for all that is wanted, at once.
pub async fn gather(client: &Client, object: &Value, wanted: &[Wanted], chunk: u64) -> Related {
    let asked = wanted.iter().map(|wanted| async move { (*wanted, ask(client, object, *wanted, chunk).await) });
    Related(futures::future::join_all(asked).await.into_iter().collect())
}

async fn ask(client: &Client, object: &Value, wanted: Wanted, chunk: u64) -> Result<Vec<Value>> {
    let (name, namespace) = (fields::name(object), fields::namespace(object));
    let core = |plural: &str, namespace: &str| Call::get(collection("/api/v1", namespace, plural));
    let slices = || Call::get(collection("/apis/discovery.k8s.io/v1", namespace, "endpointslices"));
    let call = match wanted {
        Wanted::Events => return events(client, object, chunk).await,
        Wanted::Lease => {
            let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
            return Ok(vec![client.json(&Call::get(path)).await?]);
        }
        Wanted::PodsOfSelector => core("pods", namespace).query("labelSelector", labels(object)),
        Wanted::Pods => core("pods", namespace),
        Wanted::PodsOnNode => core("pods", "")
            .query("fieldSelector", format!("spec.nodeName={name},status.phase!=Failed,status.phase!=Succeeded")),
        Wanted::ReplicaSets => {
            Call::get(collection("/apis/apps/v1", namespace, "replicasets")).query("labelSelector", labels(object))
        }
        Wanted::EndpointSlices => slices().query("labelSelector", format!("kubernetes.io/service-name={name}")),
        Wanted::AllEndpointSlices => slices(),
        Wanted::Services => core("services", namespace),
        Wanted::Secrets => core("secrets", namespace),
        Wanted::Quotas => core("resourcequotas", name),
        Wanted::LimitRanges => core("limitranges", name),
    };
    client.list(&call, chunk).await
}

fn collection(root: &str, namespace: &str, plural: &str) -> String {
    if namespace.is_empty() { format!("{root}/{plural}") } else { format!("{root}/namespaces/{namespace}/{plural}") }
}

/// The selector of an object as a parameter; that of old controllers is a plain map.
fn labels(object: &Value) -> String {
    let selector = object.at("spec.selector");
    let plain = object.text("kind") == "ReplicationController";
    if plain { super::page::pairs(selector).join(",") } else { super::bare_selector(selector) }
}

/// The events about an object. Those of nodes come under their UID and under their name.
async fn events(client: &Client, object: &Value, chunk: u64) -> Result<Vec<Value>> {
    let (name, namespace, kind) = (fields::name(object), fields::namespace(object), object.text("kind"));
    let mut uid = object.text("metadata.uid");
    let mut about = vec![("name", name), ("namespace", namespace)];
    match kind {
        "Pod" => uid = object["metadata"]["annotations"][MIRROR].as_str().unwrap_or(uid),
        _ => about.push(("kind", kind)),
    }
    let of = |uid| about.iter().copied().chain([("uid", uid)]).collect::<Vec<_>>();
    let mut found = events_of(client, namespace, &of(uid), chunk).await?;
    if kind == "Node" && uid != name {
        found.extend(events_of(client, namespace, &of(name), chunk).await?);
    }
    Ok(found)
}

/// The events whose object has these fields.
async fn events_of(client: &Client, namespace: &str, about: &[(&str, &str)], chunk: u64) -> Result<Vec<Value>> {
    let selector: Vec<String> = about.iter().map(|(field, value)| format!("involvedObject.{field}={value}")).collect();
    let call = Call::get(collection("/api/v1", namespace, "events")).query("fieldSelector", selector.join(","));
    client.list(&call, chunk).await
}

/// How many of the pods that an object controls are in each phase.
pub fn phases(pods: &[Value], uid: &str) -> String {
    let controlled = |pod: &&Value| {
        let owners = pod.list("metadata.ownerReferences");
        owners.iter().any(|owner| owner.flag("controller") && owner.text("uid") == uid)
    };
    let count = |phase: &str| pods.iter().filter(controlled).filter(|pod| pod.text("status.phase") == phase).count();
    format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        count("Running"),
        count("Pending"),
        count("Succeeded"),
        count("Failed")
    )
}
