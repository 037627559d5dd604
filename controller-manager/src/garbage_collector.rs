//! Deleting what has lost its owners: a graph of who owns whom, fed by metadata-only watches of every deletable resource.
//!
//! The graph only says where to look. Before anything is deleted, the object and the absence of its owners are read from the API server,
//! and deletions name the uid they mean.

mod collect;
mod graph;
mod live;
mod monitors;
mod plan;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use parking_lot::Mutex;

use crate::context::Context;
use collect::Collector;
use graph::{Graph, Uid};
use monitors::Monitors;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Whether the object is to be deleted, or can go at last.
    Delete(Uid),
    /// The object's dependents are to be let go, then it.
    Orphan(Uid),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(uid) => write!(f, "delete {uid}"),
            Self::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    if !ctx.options.controllers.enable_garbage_collector {
        ctx.shutdown.cancelled().await;
        return Ok(());
    }
    let client = ctx.client("generic-garbage-collector").await?;
    let graph = Arc::new(Mutex::new(Graph::default()));
    let queue = WorkQueue::new();
    let monitors = Monitors::new(client.clone(), Arc::clone(&graph), queue.clone());
    let resources = monitors.resources();
    let keep_up = monitors.keep_up_with_discovery(ctx.shutdown.clone());
    let collector = Collector::new(client, graph, resources, queue.clone());
    let workers = ctx.options.controllers.concurrent_gc_syncs;
    futures::join!(keep_up, ctx.run(GarbageCollector(collector), queue, workers));
    Ok(())
}

struct GarbageCollector(Collector);

#[async_trait]
impl Controller for GarbageCollector {
    type Key = Work;

    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    async fn reconcile(&self, work: &Work) -> Result<Requeue, Error> {
        match work {
            Work::Delete(uid) => self.0.attempt_to_delete(uid).await,
            Work::Orphan(uid) => self.0.attempt_to_orphan(uid).await,
        }
    }
}
