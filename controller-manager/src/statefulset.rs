//! StatefulSets: pods with names, places and claims of their own, made, updated and taken away in order.

mod identity;
mod plan;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use component_base::client::{is_already_exists, is_not_found};
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::children::{self, Changes, Owner, owner_key};
use crate::context::Context;
use crate::history::{self, Source};
use crate::podcontrol::message;
use crate::{ownership, writes};
use plan::{Action, Revisions, plan};

const COMPONENT: &str = "statefulset-controller";
/// The label under which a revision has its hash.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

struct StatefulSets {
    client: Client,
    recorder: Recorder,
    sets: Store<StatefulSet>,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    revisions: Store<ControllerRevision>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client(COMPONENT).await?;
    let recorder = ctx.recorder(&client, COMPONENT);
    let (sets, pods) = (ctx.informers.get::<StatefulSet>(), ctx.informers.get::<Pod>());
    let (claims, revisions) = (ctx.informers.get::<PersistentVolumeClaim>(), ctx.informers.get::<ControllerRevision>());
    children::index(&pods);
    children::index(&revisions);
    let queue = ctx.keys_of(&sets);
    let changes = Changes { owners: sets.store(), queue: queue.clone(), expectations: Arc::default() };
    pods.on_change(move |change| changes.take(change));
    let (keys, known) = (queue.clone(), sets.store());
    revisions.on_change(move |change| {
        owner_key(&change.object().metadata, &known).into_iter().for_each(|key| keys.add(key));
    });
    futures::join!(sets.synced(), pods.synced(), claims.synced(), revisions.synced());
    let controller = StatefulSets {
        client,
        recorder,
        sets: sets.store(),
        pods: pods.store(),
        claims: claims.store(),
        revisions: revisions.store(),
    };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_statefulset_syncs).await;
    Ok(())
}

#[async_trait]
impl Controller for StatefulSets {
    type Key = Key;

    fn name(&self) -> &'static str {
        COMPONENT
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(set) = self.sets.get(key) else { return Ok(Requeue::No) };
        let Some(selector) = set.selector() else { return Ok(Requeue::No) };
        // Only pods with a name of the set's can be the set's.
        let mut candidates = children::candidates(&self.pods, &set.metadata);
        candidates.retain(|pod| identity::ordinal(&set, &pod.name_any()).is_some());
        let pods = ownership::claim_pods(&self.client, set.as_ref(), &selector, &candidates).await?;
        let history: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(update) = self.update_revision(&set, &history).await? else {
            return Err("the name of the new revision is taken, another will be tried".into());
        };
        let current = self.current_revision(&set, &update);
        let (current_name, update_name) = (current.name_any(), update.name_any());
        let revisions = Revisions { current: &current_name, update: &update_name };
        let now = Timestamp::now();
        self.update_claims(&set, &pods).await?;
        let planned = plan(&set, &pods, revisions, now);
        let applied = join_all(planned.actions.into_iter().map(|action| self.apply(&set, action, &current, &update)));
        let applied: Result<Vec<()>, Error> = applied.await.into_iter().collect();
        let status = plan::status(&set, &pods, revisions, now);
        if set.status.as_ref() != Some(&status) {
            writes::replace_status(&self.client, &StatefulSet { status: Some(status), ..(*set).clone() }).await?;
        }
        applied?;
        self.clean_history(&set, &history, &pods, revisions).await?;
        Ok(planned.recheck.map_or(Requeue::No, Requeue::After))
    }
}

impl StatefulSets {
    /// The revision of the present template, made or brought to the top; `None` if its name is taken.
    async fn update_revision(
        &self,
        set: &StatefulSet,
        api: &Api<ControllerRevision>,
    ) -> Result<Option<Arc<ControllerRevision>>, Error> {
        let known = children::controlled(&self.revisions, &set.metadata);
        let status = set.status.clone().unwrap_or_default();
        let template = identity::spec(set).template;
        let source = Source { template: &template, collisions: status.collision_count, label: HASH_LABEL };
        let revision = history::apply(api, set, history::plan(set, &source, &known)).await?;
        if revision.is_none() {
            let mut changed = status;
            changed.collision_count = Some(changed.collision_count.unwrap_or(0) + 1);
            writes::replace_status(&self.client, &StatefulSet { status: Some(changed), ..set.clone() }).await?;
        }
        Ok(revision)
    }

    /// The revision of before the update: the one that the status names, while it is there.
    fn current_revision(&self, set: &StatefulSet, update: &Arc<ControllerRevision>) -> Arc<ControllerRevision> {
        let name = set.status.as_ref().and_then(|status| status.current_revision.as_deref()).unwrap_or_default();
        let known = self.revisions.find(set.metadata.namespace.as_deref().unwrap_or_default(), name);
        let ours = known.filter(|revision| ownership::is_controlled_by(&revision.metadata, &set.metadata));
        ours.unwrap_or_else(|| Arc::clone(update))
    }

    async fn clean_history(
        &self,
        set: &StatefulSet,
        api: &Api<ControllerRevision>,
        pods: &[Arc<Pod>],
        revisions: Revisions<'_>,
    ) -> Result<(), Error> {
        let live: HashSet<&str> =
            pods.iter().map(|pod| identity::revision_of(pod)).chain([revisions.current, revisions.update]).collect();
        let known = children::controlled(&self.revisions, &set.metadata);
        let limit = identity::spec(set).revision_history_limit;
        let excess = history::excess(&known, |revision| live.contains(revision.name_any().as_str()), limit);
        Ok(history::clean(api, excess).await?)
    }

    async fn apply(
        &self,
        set: &StatefulSet,
        action: Action,
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        match action {
            Action::Create { ordinal, updated } => {
                let revision = if updated { update } else { current };
                self.create(&api, set, revision, ordinal).await
            }
            Action::Delete(pod) => {
                let outcome = writes::delete(&api, &pod.metadata).await;
                self.report(set, "Delete", &pod.name_any(), outcome.as_ref().err());
                outcome.map(drop).map_err(Error::from)
            }
            Action::Label { pod, ordinal } => {
                let meta = serde_json::json!({ "uid": pod.metadata.uid, "labels": identity::labels(set, ordinal) });
                let patch = Patch::Merge(serde_json::json!({ "metadata": meta }));
                match api.patch(&pod.name_any(), &PatchParams::default(), &patch).await {
                    Err(error) if is_not_found(&error) => Ok(()),
                    outcome => outcome.map(drop).map_err(Error::from),
                }
            }
        }
    }

    /// Makes a pod, and before it the claims that it needs.
    async fn create(
        &self,
        api: &Api<Pod>,
        set: &StatefulSet,
        revision: &ControllerRevision,
        ordinal: i32,
    ) -> Result<(), Error> {
        let template = history::template(revision).ok_or("a revision has no template")?;
        let pod = identity::pod(set, &template, &revision.name_any(), ordinal);
        for (_, claim) in identity::claims(set, ordinal) {
            self.create_claim(set, &pod, claim).await?;
        }
        match api.create(&PostParams::default(), &pod).await {
            // The cache is behind.
            Err(error) if is_already_exists(&error) => Ok(()),
            outcome => {
                self.report(set, "Create", &pod.name_any(), outcome.as_ref().err());
                outcome.map(drop).map_err(Error::from)
            }
        }
    }

    async fn create_claim(&self, set: &StatefulSet, pod: &Pod, mut claim: PersistentVolumeClaim) -> Result<(), Error> {
        let namespace = set.namespace().unwrap_or_default();
        if let Some(known) = self.claims.find(&namespace, &claim.name_any()) {
            return match known.metadata.deletion_timestamp {
                None => Ok(()),
                Some(_) => Err(format!("claim {} is being deleted", claim.name_any()).into()),
            };
        }
        let (by_set, _) = identity::claim_owners(set, false);
        claim.metadata.owner_references = by_set.then(|| vec![ownership::owner_reference(set)]);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        match api.create(&PostParams::default(), &claim).await {
            Err(error) if !is_already_exists(&error) => {
                let note = format!(
                    "create Claim {} Pod {} failed error: {}",
                    claim.name_any(),
                    pod.name_any(),
                    message(&error)
                );
                self.recorder.event(&reference(set), EventType::Warning, "FailedCreate", "", note);
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// Gives claims the owners with which they are to go.
    async fn update_claims(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let (kept, condemned) = plan::by_ordinal(set, pods);
        let all = kept.values().map(|pod| (pod, false)).chain(condemned.iter().map(|pod| (pod, true)));
        for (pod, is_condemned) in all {
            let wanted = identity::claim_owners(set, is_condemned);
            for (_, claim) in identity::claims(set, identity::ordinal(set, &pod.name_any()).unwrap_or_default()) {
                let known = self.claims.find(&set.namespace().unwrap_or_default(), &claim.name_any());
                let Some(known) = known.filter(|claim| claim.metadata.deletion_timestamp.is_none()) else { continue };
                if let Some(changed) = with_owners(&known, set, pod, wanted) {
                    api.replace(&known.name_any(), &PostParams::default(), &changed).await?;
                }
            }
        }
        Ok(())
    }

    fn report(&self, set: &StatefulSet, verb: &str, pod: &str, error: Option<&kube::Error>) {
        let (about, name, word) = (reference(set), set.name_any(), verb.to_lowercase());
        match error {
            None => {
                let note = format!("{word} Pod {pod} in StatefulSet {name} successful");
                self.recorder.normal(&about, &format!("Successful{verb}"), note);
            }
            Some(error) => {
                let note = format!("{word} Pod {pod} in StatefulSet {name} failed error: {}", message(error));
                self.recorder.warning(&about, &format!("Failed{verb}"), note);
            }
        }
    }
}

/// The claim with the set and the pod as owners, or without them; `None` if it is so already.
fn with_owners(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
    (by_set, by_pod): (bool, bool),
) -> Option<PersistentVolumeClaim> {
    let owned_by =
        |meta: &ObjectMeta| claim.owner_references().iter().any(|owner| Some(&owner.uid) == meta.uid.as_ref());
    if (owned_by(&set.metadata), owned_by(&pod.metadata)) == (by_set, by_pod) {
        return None;
    }
    let mut changed = claim.clone();
    let owners = changed.owner_references_mut();
    owners.retain(|owner| [&set.metadata.uid, &pod.metadata.uid].iter().all(|uid| uid.as_ref() != Some(&owner.uid)));
    owners.extend(by_set.then(|| ownership::owner_reference(set)));
    owners.extend(by_pod.then(|| ownership::owner_reference(pod)));
    Some(changed)
}
