//! Waiting for objects to become as wished.

use std::time::Duration;

use serde_json::Value;

use crate::api::{Call, Client};
use crate::error::Result;
use crate::fields::Fields;
use crate::interrupt;
use crate::resources::Target;

/// Watches an object, gone or not, until `decide` says that it is as wished; `false` when the time is over first.
///
/// # Errors
/// What `decide` says, and when the server does not answer.
pub async fn until(
    client: &Client,
    target: &Target,
    timeout: Option<Duration>,
    mut decide: impl FnMut(Option<&Value>) -> Result<bool>,
) -> Result<bool> {
    let watching = interrupt::until(watch(client, target, &mut decide));
    match timeout {
        None => watching.await.map(|()| true),
        Some(timeout) => match tokio::time::timeout(timeout, watching).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        },
    }
}

async fn watch(
    client: &Client,
    target: &Target,
    decide: &mut impl FnMut(Option<&Value>) -> Result<bool>,
) -> Result<()> {
    let of_it = Call::get(target.collection()).query("fieldSelector", format!("metadata.name={}", target.name));
    loop {
        let list = client.json(&of_it).await?;
        if decide(list.list("items").first())? {
            return Ok(());
        }
        let call = of_it.clone().query("watch", "true").query("resourceVersion", list.text("metadata.resourceVersion"));
        let mut events = client.stream(&call).await?;
        while let Some(event) = events.event().await? {
            let done = match event.text("type") {
                "DELETED" => decide(None)?,
                "ADDED" | "MODIFIED" => decide(Some(&event["object"]))?,
                "ERROR" => break,
                _ => false,
            };
            if done {
                return Ok(());
            }
        }
    }
}
