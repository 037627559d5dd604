//! Which objects belong to a controlling object: those it made, orphans that match its selector (adopted), and not those that match no more (released).

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use component_base::client;

/// The owner that controls an object, if any.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` controls the object.
pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|reference| Some(&reference.uid) == owner.uid.as_ref())
}

/// The reference that a child has to its controlling owner.
pub fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A label selector that is ready to match; `None` if it is malformed or empty, which selects nothing that a controller should touch.
pub fn selector(selector: Option<&LabelSelector>) -> Option<Selector> {
    let selector = Selector::try_from(selector?.clone()).ok()?;
    (!selector.selects_all()).then_some(selector)
}

/// Whether a selector matches an object's labels.
pub fn matches(selector: &Selector, meta: &ObjectMeta) -> bool {
    match &meta.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    }
}

/// What an object is to a controlling one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Ours,
    /// It is nobody's, and should become ours.
    Adopt,
    /// It is ours, and should no more be.
    Release,
    /// It is not our business.
    Ignore,
}

/// What an object is to `owner`: pure.
pub fn claim(owner: &ObjectMeta, selector: &Selector, object: &ObjectMeta) -> Claim {
    let matched = matches(selector, object);
    let owner_ends = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matched => Claim::Ours,
        Some(_) if owner_ends => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_ends || !matched || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Makes an orphan ours. The uid in the patch makes it fail if the name is by now another object's.
pub async fn adopt<K, O>(api: &Api<K>, owner: &O, object: &ObjectMeta) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
    O: Resource<DynamicType = ()>,
{
    let patch = serde_json::json!({
        "metadata": { "uid": object.uid, "ownerReferences": [owner_reference(owner)] },
    });
    let name = object.name.as_deref().unwrap_or_default();
    api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await
}

/// Gives an object up. It is no failure if the object is gone.
pub async fn release<K>(api: &Api<K>, owner: &ObjectMeta, object: &ObjectMeta) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let patch = serde_json::json!({
        "metadata": { "uid": object.uid, "ownerReferences": [{ "$patch": "delete", "uid": owner.uid }] },
    });
    let name = object.name.as_deref().unwrap_or_default();
    match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        // 422: it has no such owner any more, or is another object by now.
        Err(error) if client::is_not_found(&error) || client::has_code(&error, 422) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The pods that are `owner`'s, after adopting orphans that match and releasing those that match no more.
pub async fn claim_pods<O>(
    client: &Client,
    owner: &O,
    selector: &Selector,
    candidates: &[Arc<Pod>],
) -> Result<Vec<Arc<Pod>>, kube::Error>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let meta = owner.meta();
    let api: Api<Pod> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let mut claimed = Vec::new();
    let mut may_adopt = None;
    for pod in candidates {
        match claim(meta, selector, &pod.metadata) {
            Claim::Ours => claimed.push(Arc::clone(pod)),
            Claim::Ignore => {}
            Claim::Release => release(&api, meta, &pod.metadata).await?,
            Claim::Adopt => {
                let lives = match may_adopt {
                    Some(known) => known,
                    None => *may_adopt.insert(lives(client, owner).await?),
                };
                match if lives { adopt(&api, owner, &pod.metadata).await.map(Some) } else { Ok(None) } {
                    Ok(Some(_)) => claimed.push(Arc::clone(pod)),
                    Ok(None) => {}
                    Err(error) if client::is_not_found(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(claimed)
}

/// Whether the owner lives, asked from the server: a cache that is behind must not give children to one that is going.
async fn lives<O>(client: &Client, owner: &O) -> Result<bool, kube::Error>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let meta = owner.meta();
    let api: Api<O> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let live = api.get_opt(meta.name.as_deref().unwrap_or_default()).await?;
    Ok(live.is_some_and(|live| live.meta().uid == meta.uid && live.meta().deletion_timestamp.is_none()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn claims_follow_owner_and_labels() {
        let meta = |uid: &str, owner: Option<&str>, app: &str, deleted: bool| ObjectMeta {
            uid: Some(uid.into()),
            labels: Some(BTreeMap::from([("app".to_owned(), app.to_owned())])),
            owner_references: owner.map(|uid| {
                vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]
            }),
            deletion_timestamp: deleted.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        let wanted = Selector::from_iter([("app", "web")]);
        let owner = meta("o", None, "", false);
        let ending = meta("o", None, "", true);
        for (owner, object, expected) in [
            (&owner, meta("p", Some("o"), "web", false), Claim::Ours),
            (&owner, meta("p", Some("o"), "web", true), Claim::Ours),
            (&owner, meta("p", Some("o"), "db", false), Claim::Release),
            (&owner, meta("p", Some("x"), "web", false), Claim::Ignore),
            (&owner, meta("p", None, "web", false), Claim::Adopt),
            (&owner, meta("p", None, "web", true), Claim::Ignore),
            (&owner, meta("p", None, "db", false), Claim::Ignore),
            (&ending, meta("p", None, "web", false), Claim::Ignore),
            (&ending, meta("p", Some("o"), "db", false), Claim::Ignore),
        ] {
            assert_eq!(claim(owner, &wanted, &object), expected, "{object:?}");
        }
        assert!(selector(Some(&LabelSelector::default())).is_none());
    }
}
