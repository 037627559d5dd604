//! Deleting everything in a namespace, resource by resource, and saying what is left.

use futures::{StreamExt, stream};
use kube::api::{DeleteParams, DynamicObject, ListParams, PartialObjectMeta, PropagationPolicy};
use kube::{Api, Client, ResourceExt};

use super::plan::{Outcome, Remaining};
use crate::discovery::{self, Resource};

/// Resources that are worked on at a time.
const PARALLEL: usize = 8;

/// Deletes what can be deleted now.
pub async fn delete_all(client: &Client, namespace: &str) -> Outcome {
    let resources = match discovery::deletable(client).await {
        Ok(resources) => resources,
        Err(error) => return Outcome { discovery_error: Some(error.to_string()), ..Outcome::default() },
    };
    let namespaced = resources.into_iter().filter(|r| r.namespaced);
    let results = stream::iter(namespaced).map(|resource| async move {
        let result = delete_resource(client, namespace, &resource).await;
        (resource.name(), result)
    });
    let mut outcome = Outcome::default();
    let mut results = results.buffer_unordered(PARALLEL);
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(left) if left.objects > 0 => drop(outcome.remaining.insert(name, left)),
            Ok(_) => {}
            Err(error) => outcome.errors.push(format!("{name}: {error}")),
        }
    }
    outcome.errors.sort();
    outcome
}

/// Deletes the objects of one resource; gives what is there afterwards.
async fn delete_resource(client: &Client, namespace: &str, resource: &Resource) -> Result<Remaining, kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource.api);
    let found = left(&api).await?;
    // What is on its way out already needs no second request: it waits for its grace period or its finalizers.
    if found.iter().all(|object| object.metadata.deletion_timestamp.is_some()) {
        return Ok(count(&found));
    }
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    if resource.deletes_collections {
        api.delete_collection(&params, &ListParams::default()).await?;
    } else {
        for object in &found {
            match api.delete(&object.name_any(), &params).await {
                Err(error) if !component_base::client::is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(count(&left(&api).await?))
}

async fn left(api: &Api<DynamicObject>) -> Result<Vec<PartialObjectMeta<DynamicObject>>, kube::Error> {
    match api.list_metadata(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        // The resource went away in the meantime, and its objects with it.
        Err(error) if component_base::client::is_not_found(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn count(objects: &[PartialObjectMeta<DynamicObject>]) -> Remaining {
    let mut remaining = Remaining { objects: objects.len(), ..Remaining::default() };
    for finalizer in objects.iter().flat_map(|o| o.metadata.finalizers.iter().flatten()) {
        *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    remaining
}
