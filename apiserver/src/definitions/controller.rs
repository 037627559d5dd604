//! The controller of CustomResourceDefinitions: accepted names and conditions, and the end of their objects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, Reason, meta, time};
use apiserver_registry::custom::status;
use apiserver_storage::Object;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RESOURCE;
use crate::endpoints::delete::Options;
use crate::endpoints::update::Part;
use crate::endpoints::write::{Change, is_released};
use crate::hooks::Own;
use crate::managed::Writer;
use crate::request::RequestInfo;
use crate::served::Served;
use crate::server::Server;

/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Keeps the status of every definition, until shutdown.
pub async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep(&server) => {}
    }
}

async fn keep(server: &Arc<Server>) {
    server.store.ready().await;
    let mut finalizing = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        let failed = reconcile(server).await;
        for definition in server.definitions.objects().iter().filter(|one| status::is_to_be_finalized(one)) {
            let name = meta::name(definition).to_owned();
            if finalizing.insert(name.clone()) {
                let server = server.clone();
                tasks.spawn(async move {
                    finalize(&server, &name).await;
                    name
                });
            }
        }
        tokio::select! {
            () = server.definitions.changed.notified() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
            Some(done) = tasks.join_next() => match done {
                Ok(name) => drop(finalizing.remove(&name)),
                Err(error) => tracing::error!(%error, "the deletion of custom resources panicked"),
            },
        }
    }
}

/// Writes every status that is not as it should be. Tells whether one could not be written.
async fn reconcile(server: &Server) -> bool {
    let all = server.definitions.objects();
    let now = time::now_rfc3339();
    let mut failed = false;
    for definition in &all {
        if status::plan(definition, all.iter().map(|other| &**other), &now).is_none() {
            continue;
        }
        let name = meta::name(definition);
        if let Err(error) = write_status(server, name, &all, &now).await
            && !error.is(Reason::NotFound)
        {
            tracing::warn!(%error, name, "the status of a custom resource definition could not be written");
            failed = true;
        }
    }
    failed
}

fn info(served: &Served, verb: &'static str, name: &str, subresource: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb,
        group: served.resource.group.clone(),
        version: served.resource.version.clone(),
        resource: served.resource.resource.clone(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        ..RequestInfo::default()
    }
}

async fn write_status(server: &Server, name: &str, all: &[Arc<Value>], now: &str) -> Result<(), ApiError> {
    let own = Own::new(server);
    let served = server.resources.builtin_resource(RESOURCE.group, RESOURCE.resource);
    let info = info(served, "update", name, "status");
    let call = own.call(served, &info);
    let writer = &Writer { manager: "kube-apiserver".into(), applies: false };
    let change = |current: Arc<Object>| {
        let call = &call;
        async move {
            let mut value = current.to_value();
            match status::plan(&value, all.iter().map(|other| &**other), now) {
                Some(status) => value["status"] = status,
                None => return Ok(value.into()),
            }
            call.replace(&current, value, Part::Status, false, writer).await
        }
    };
    call.modify(name, false, change).await.map(drop)
}

/// Deletes the objects of a definition, and then lets it go.
async fn finalize(server: &Server, name: &str) {
    while let Err(error) = try_finalize(server, name).await {
        if error.is(Reason::NotFound) {
            return;
        }
        tracing::warn!(%error, name, "the objects of a custom resource definition could not be deleted; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_finalize(server: &Server, name: &str) -> Result<(), ApiError> {
    let own = Own::new(server);
    if let Some(stored) = server.definitions.stored(name) {
        let info = info(&stored, "deletecollection", "", "");
        own.call(&stored, &info).delete_collection(&Options::default()).await?;
        let cache = server.store.cache();
        // The sender lives as long as the cache.
        drop(cache.revisions().wait_for(|_| cache.snapshot().count(&stored.prefix) == 0).await);
    }
    let served = server.resources.builtin_resource(RESOURCE.group, RESOURCE.resource);
    let info = info(served, "update", name, "");
    let call = own.call(served, &info);
    call.modify(name, false, |current| async move { Ok(released(&current)) }).await.map(drop)
}

fn released(current: &Object) -> Change<'static> {
    let mut value = current.to_value();
    status::finalize(&mut value, &time::now_rfc3339());
    if is_released(&value) { Change::Delete } else { value.into() }
}
