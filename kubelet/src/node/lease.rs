//! The node's lease in `kube-node-lease`: renewed four times as often as it lasts, it says that the kubelet lives.

use std::sync::Arc;
use std::time::Duration;

use component_base::client::is_not_found;
use component_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::agent::Agent;

const NAMESPACE: &str = "kube-node-lease";
const RETRY: Duration = Duration::from_millis(500);

/// Renews until shutdown.
pub async fn run(agent: Arc<Agent>, client: Client, shutdown: Shutdown) {
    let duration = agent.config.node_lease_duration_seconds;
    let period = Duration::from_millis(u64::from(duration) * 250);
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let mut held: Option<Lease> = None;
    loop {
        let wait = match renew(&agent, &client, &leases, held.take(), duration).await {
            Ok(lease) => {
                held = Some(lease);
                period
            }
            Err(error) => {
                tracing::warn!(%error, "the node's lease cannot be renewed");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn renew(
    agent: &Agent,
    client: &Client,
    leases: &Api<Lease>,
    held: Option<Lease>,
    duration: u32,
) -> Result<Lease, kube::Error> {
    let current = match held {
        Some(held) => Some(held),
        None => leases.get_opt(&agent.node_name).await?,
    };
    let now = Some(MicroTime(Timestamp::now()));
    match current {
        Some(mut lease) => {
            // The first one may be made before the node is registered.
            if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
                lease.metadata.owner_references = owner(agent, client).await?;
            }
            let spec = lease.spec.get_or_insert_default();
            spec.renew_time = now;
            spec.holder_identity = Some(agent.node_name.clone());
            spec.lease_duration_seconds = i32::try_from(duration).ok();
            leases.replace(&agent.node_name, &PostParams::default(), &lease).await
        }
        None => {
            let spec = LeaseSpec {
                holder_identity: Some(agent.node_name.clone()),
                lease_duration_seconds: i32::try_from(duration).ok(),
                renew_time: now,
                ..Default::default()
            };
            let owner_references = owner(agent, client).await?;
            let metadata = ObjectMeta { name: Some(agent.node_name.clone()), owner_references, ..Default::default() };
            leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
    }
}

async fn owner(agent: &Agent, client: &Client) -> Result<Option<Vec<OwnerReference>>, kube::Error> {
    let node = match Api::<Node>::all(client.clone()).get(&agent.node_name).await {
        Err(error) if is_not_found(&error) => return Ok(None),
        other => other?,
    };
    Ok(Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: agent.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..Default::default()
    }]))
}
