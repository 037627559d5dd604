//! The revisions of a set's template, as ControllerRevisions: what `rollout history` shows and `rollout undo` goes back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use component_base::client::is_already_exists;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};

use crate::children::Owner;
use crate::deployment::template_hash;
use crate::{ownership, writes};

/// The label by which pods of revisions are told apart.
pub const POD_LABEL: &str = "controller-revision-hash";

/// What a revision is made of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The template.
    pub template: &'a PodTemplateSpec,
    /// How often a revision's name was taken.
    pub collisions: Option<i32>,
    /// The label under which the revision has its hash.
    pub label: &'static str,
}

/// What to do so that the present template is the newest revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is.
    Current(Arc<ControllerRevision>),
    /// Write this known revision, with a higher number.
    Raise(Box<ControllerRevision>),
    /// Make this revision.
    Create(Box<ControllerRevision>),
}

/// A revision's content: a patch that puts the template back.
fn data(template: &PodTemplateSpec) -> RawExtension {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), "replace".into());
    }
    RawExtension(serde_json::json!({ "spec": { "template": template } }))
}

/// The template that a revision puts back; `None` for what no controller of ours made.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.as_ref()?.0.pointer("/spec/template")?;
    serde_json::from_value(template.clone()).ok()
}

/// Compares the present template with the known revisions.
pub fn plan<O: Owner>(owner: &O, source: &Source<'_>, known: &[Arc<ControllerRevision>]) -> Step {
    let data = data(source.template);
    let highest = known.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let same = known.iter().filter(|revision| revision.data.as_ref() == Some(&data));
    match same.max_by_key(|revision| revision.revision) {
        Some(revision) if revision.revision == highest => Step::Current(Arc::clone(revision)),
        Some(revision) => {
            Step::Raise(Box::new(ControllerRevision { revision: highest + 1, ..ControllerRevision::clone(revision) }))
        }
        None => Step::Create(Box::new(new_revision(owner, source, data, highest + 1))),
    }
}

fn new_revision<O: Owner>(owner: &O, source: &Source<'_>, data: RawExtension, number: i64) -> ControllerRevision {
    let hash = template_hash(source.template, source.collisions);
    let labels = source.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let mut labels: BTreeMap<String, String> = labels.unwrap_or_default();
    labels.insert(source.label.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![ownership::owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        revision: number,
    }
}

/// Carries a step out; gives the present revision, or `None` when another revision has its name: with one more collision it gets another.
pub async fn apply<O: Owner>(
    api: &Api<ControllerRevision>,
    owner: &O,
    step: Step,
) -> Result<Option<Arc<ControllerRevision>>, kube::Error> {
    let revision = match step {
        Step::Current(revision) => return Ok(Some(revision)),
        Step::Raise(revision) => {
            return api
                .replace(&revision.name_any(), &PostParams::default(), &revision)
                .await
                .map(|it| Some(Arc::new(it)));
        }
        Step::Create(revision) => revision,
    };
    match api.create(&PostParams::default(), &revision).await {
        Err(error) if is_already_exists(&error) => {}
        outcome => return outcome.map(|created| Some(Arc::new(created))),
    }
    // Made by an earlier sync and not in the cache yet, or another's.
    let existing = api.get(&revision.name_any()).await?;
    let is_same = existing.data == revision.data && ownership::is_controlled_by(&existing.metadata, owner.meta());
    Ok(is_same.then(|| Arc::new(existing)))
}

/// The oldest revisions beyond the history's limit that are not in use.
pub fn excess(
    known: &[Arc<ControllerRevision>],
    is_live: impl Fn(&ControllerRevision) -> bool,
    limit: Option<i32>,
) -> Vec<Arc<ControllerRevision>> {
    let mut old: Vec<&Arc<ControllerRevision>> = known.iter().filter(|revision| !is_live(revision)).collect();
    old.sort_by_key(|revision| revision.revision);
    let excess = old.len().saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or(0));
    old.into_iter().take(excess).cloned().collect()
}

/// Deletes revisions.
pub async fn clean(api: &Api<ControllerRevision>, excess: Vec<Arc<ControllerRevision>>) -> Result<(), kube::Error> {
    for revision in excess {
        writes::delete(api, &revision.metadata).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    fn template_of(image: &str) -> PodTemplateSpec {
        let container = Container { image: Some(image.into()), ..Container::default() };
        let spec = PodSpec { containers: vec![container], ..PodSpec::default() };
        PodTemplateSpec { spec: Some(spec), metadata: None }
    }

    fn step(image: &str, known: &[Arc<ControllerRevision>]) -> Step {
        let mut set = StatefulSet::default();
        set.metadata.name = Some("web".into());
        plan(&set, &Source { template: &template_of(image), collisions: None, label: POD_LABEL }, known)
    }

    fn created(step: Step) -> Arc<ControllerRevision> {
        let Step::Create(revision) = step else { panic!("{step:?}") };
        Arc::from(revision)
    }

    #[test]
    fn each_template_is_one_revision_and_going_back_raises_it() {
        let one = created(step("a:1", &[]));
        assert_eq!(one.revision, 1);
        assert_eq!(template(&one), Some(template_of("a:1")));
        assert_eq!(step("a:1", &[Arc::clone(&one)]), Step::Current(Arc::clone(&one)));
        let two = created(step("a:2", &[Arc::clone(&one)]));
        assert_eq!(two.revision, 2);
        let Step::Raise(back) = step("a:1", &[Arc::clone(&one), two]) else { panic!() };
        assert_eq!((back.name_any(), back.revision), (one.name_any(), 3));
    }

    #[test]
    fn old_revisions_go_unless_they_are_in_use() {
        let mut known: Vec<Arc<ControllerRevision>> = Vec::new();
        for n in 0..4 {
            known.push(created(step(&format!("a:{n}"), &known)));
        }
        let excess = |live: &[usize]| {
            let is_live =
                |one: &ControllerRevision| live.iter().any(|index| known[*index].name_any() == one.name_any());
            excess(&known, is_live, Some(1)).iter().map(|one| one.revision).collect::<Vec<_>>()
        };
        assert_eq!(excess(&[3]), [1, 2]);
        assert_eq!(excess(&[0, 3]), [2]);
    }
}
