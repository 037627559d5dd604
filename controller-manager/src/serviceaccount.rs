//! Every namespace has a service account `default`.

use async_trait::async_trait;
use component_base::client::{is_already_exists, is_namespace_terminating, is_not_found};
use component_base::informer::{Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::context::Context;
use crate::serviceaccount_token::Account;

const NAME: &str = "default";

struct ServiceAccounts {
    client: Client,
    namespaces: Store<Namespace>,
    accounts: Store<Account>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("service-account-controller").await?;
    let namespaces = ctx.informers.get::<Namespace>();
    let accounts = ctx.informers.get::<Account>();
    let queue = WorkQueue::new();
    let keys = queue.clone();
    namespaces.on_change(move |change| keys.add(Key::cluster(change.key().name)));
    let keys = queue.clone();
    accounts.on_change(move |change| {
        if change.is_deleted() && change.key().name == NAME {
            keys.add(Key::cluster(change.key().namespace));
        }
    });
    futures::join!(namespaces.synced(), accounts.synced());
    let controller = ServiceAccounts { client, namespaces: namespaces.store(), accounts: accounts.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

/// Whether the namespace is to have what every namespace has: one that is being deleted gets nothing new.
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

#[async_trait]
impl Controller for ServiceAccounts {
    type Key = Key;

    fn name(&self) -> &'static str {
        "serviceaccount-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let wanted = self.namespaces.get(key).is_some_and(|namespace| is_active(&namespace));
        if !wanted || self.accounts.find(&key.name, NAME).is_some() {
            return Ok(Requeue::No);
        }
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        match api.create(&PostParams::default(), &account).await {
            Err(error) if !(is_already_exists(&error) || is_not_found(&error) || is_namespace_terminating(&error)) => {
                Err(error.into())
            }
            _ => Ok(Requeue::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_goes_gets_nothing_new() {
        let mut namespace = Namespace::default();
        assert!(is_active(&namespace));
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        assert!(!is_active(&namespace));
    }
}
