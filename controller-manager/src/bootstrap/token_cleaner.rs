//! Removing bootstrap tokens that have expired.

use async_trait::async_trait;
use component_base::informer::{Key, Selector, Store};
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::{NAMESPACE, SECRET_TYPE, Token};
use crate::context::Context;
use crate::writes;

struct Cleaner {
    client: Client,
    secrets: Store<Secret>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("token-cleaner").await?;
    let secrets = ctx.informers.get_namespaced::<Secret>(NAMESPACE, Selector::fields(format!("type={SECRET_TYPE}")));
    let queue = ctx.keys_of(&secrets);
    secrets.synced().await;
    let controller = Cleaner { client, secrets: secrets.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

#[async_trait]
impl Controller for Cleaner {
    type Key = Key;

    fn name(&self) -> &'static str {
        "token-cleaner-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(secret) = self.secrets.get(key) else { return Ok(Requeue::No) };
        let Some(token) = Token::of(&secret) else { return Ok(Requeue::No) };
        let now = Timestamp::now();
        if !token.is_expired(now) {
            let left = token.expires.ok().flatten().map(|at| at.duration_since(now));
            return Ok(left.and_then(|d| d.try_into().ok()).map_or(Requeue::No, Requeue::After));
        }
        writes::delete(&Api::<Secret>::namespaced(self.client.clone(), NAMESPACE), &secret.metadata).await?;
        Ok(Requeue::No)
    }
}
