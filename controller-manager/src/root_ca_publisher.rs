//! Every namespace has a ConfigMap `kube-root-ca.crt` with the authority that signed the API server's certificate.

use std::collections::BTreeMap;

use async_trait::async_trait;
use component_base::client::{is_already_exists, is_namespace_terminating, is_not_found};
use component_base::informer::{Key, Selector, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::context::Context;
use crate::serviceaccount::is_active;

const NAME: &str = "kube-root-ca.crt";
const ENTRY: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service \
     IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

struct Publisher {
    client: Client,
    bundle: String,
    namespaces: Store<Namespace>,
    published: Store<ConfigMap>,
}

/// Runs the controller. Without `--root-ca-file` it publishes the authority that this process itself trusts, as far as that is in a file.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let Some(path) = &ctx.options.controllers.root_ca_file else {
        tracing::info!("no --root-ca-file: no {NAME} is published");
        ctx.shutdown.cancelled().await;
        return Ok(());
    };
    let bundle = tokio::fs::read_to_string(path).await.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let client = ctx.client("root-ca-cert-publisher").await?;
    let namespaces = ctx.informers.get::<Namespace>();
    let published = ctx.informers.get_with::<ConfigMap>(Selector::fields(format!("metadata.name={NAME}")));
    let queue = WorkQueue::new();
    let keys = queue.clone();
    namespaces.on_change(move |change| keys.add(Key::cluster(change.key().name)));
    let keys = queue.clone();
    published.on_change(move |change| keys.add(Key::cluster(change.key().namespace)));
    futures::join!(namespaces.synced(), published.synced());
    let controller = Publisher { client, bundle, namespaces: namespaces.store(), published: published.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Create(ConfigMap),
    Update(ConfigMap),
}

fn plan(bundle: &str, published: Option<&ConfigMap>) -> Plan {
    let data = BTreeMap::from([(ENTRY.to_owned(), bundle.to_owned())]);
    let (key, text) = (DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
    let Some(found) = published else {
        let annotations = Some(BTreeMap::from([(key, text)]));
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), annotations, ..ObjectMeta::default() };
        return Plan::Create(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() });
    };
    let described = found.metadata.annotations.as_ref().is_some_and(|a| a.get(&key) == Some(&text));
    if found.data.as_ref() == Some(&data) && described {
        return Plan::Nothing;
    }
    let mut wanted = found.clone();
    wanted.data = Some(data);
    wanted.metadata.annotations.get_or_insert_default().insert(key, text);
    Plan::Update(wanted)
}

#[async_trait]
impl Controller for Publisher {
    type Key = Key;

    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if !self.namespaces.get(key).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Requeue::No);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let params = PostParams::default();
        let outcome = match plan(&self.bundle, self.published.find(&key.name, NAME).as_deref()) {
            Plan::Nothing => return Ok(Requeue::No),
            Plan::Create(map) => api.create(&params, &map).await,
            Plan::Update(map) => api.replace(NAME, &params, &map).await,
        };
        match outcome {
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
    fn what_is_published_is_kept_right() {
        let Plan::Create(made) = plan("CA", None) else { panic!("it must be created") };
        assert_eq!(plan("CA", Some(&made)), Plan::Nothing);
        let Plan::Update(renewed) = plan("NEW", Some(&made)) else { panic!("it must be updated") };
        assert_eq!(renewed.data.unwrap()[ENTRY], "NEW");
        let mut tampered = made.clone();
        tampered.data.as_mut().unwrap().insert("more".into(), "x".into());
        assert_eq!(plan("CA", Some(&tampered)), Plan::Update(made));
    }
}
