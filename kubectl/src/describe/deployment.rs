//! Deployments.

use serde_json::Value;

use super::page::Page;
use super::time::rfc1123;
use super::{Subject, Wanted, template};
use crate::fields::{self, Fields};

/// Writes a deployment.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (deployment, mut page) = (subject.object, Page::default());
    let (spec, status) = (deployment.at("spec"), deployment.at("status"));
    page.head(deployment);
    page.field(0, "CreationTimestamp", rfc1123(deployment.at("metadata.creationTimestamp")));
    page.tags(deployment);
    page.field(0, "Selector", super::bare_selector(spec.at("selector")));
    page.field(
        0,
        "Replicas",
        format_args!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            spec.int("replicas"),
            status.int("updatedReplicas"),
            status.int("replicas"),
            status.int("availableReplicas"),
            status.int("unavailableReplicas")
        ),
    );
    page.field(0, "StrategyType", spec.text("strategy.type"));
    page.field(0, "MinReadySeconds", spec.int("minReadySeconds"));
    let rolling = spec.at("strategy.rollingUpdate");
    if !rolling.is_null() {
        let (unavailable, surge) = (fields::plain(rolling.at("maxUnavailable")), fields::plain(rolling.at("maxSurge")));
        page.field(0, "RollingUpdateStrategy", format_args!("{unavailable} max unavailable, {surge} max surge"));
    }
    template::describe(&mut page, spec.at("template"));
    super::short_conditions(&mut page, deployment);
    let (old, new) = split(deployment, subject.related(Wanted::ReplicaSets));
    if !old.is_empty() || new.is_some() {
        page.field(0, "OldReplicaSets", listed(&old));
        page.field(0, "NewReplicaSet", listed(&new.into_iter().collect::<Vec<_>>()));
    }
    page
}

/// The replica sets of a deployment: those of earlier templates, and the one of the present template.
pub fn split<'a>(deployment: &Value, sets: &'a [Value]) -> (Vec<&'a Value>, Option<&'a Value>) {
    let uid = deployment.text("metadata.uid");
    let owned = |set: &&Value| {
        let owners = set.list("metadata.ownerReferences");
        owners.iter().any(|owner| owner.flag("controller") && owner.text("uid") == uid)
    };
    let owned: Vec<&Value> = sets.iter().filter(owned).collect();
    let wanted = without_hash(deployment.at("spec.template"));
    let new = owned
        .iter()
        .copied()
        .filter(|set| without_hash(set.at("spec.template")) == wanted)
        .min_by_key(|set| (set.text("metadata.creationTimestamp"), fields::name(set)));
    let old = owned.into_iter().filter(|set| new.is_none_or(|new| !std::ptr::eq(*set, new))).collect();
    (old, new)
}

/// A template without the label that tells its replica sets apart.
pub fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.remove("creationTimestamp");
    }
    template
}

fn listed(sets: &[&Value]) -> String {
    let text = |set: &&Value| {
        format!("{} ({}/{} replicas created)", fields::name(set), set.int("status.replicas"), set.int("spec.replicas"))
    };
    let texts: Vec<String> = sets.iter().map(text).collect();
    if texts.is_empty() { super::page::NONE.to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_set_of_the_present_template_is_new() {
        let template =
            |image: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"image": image}]}});
        let set = |name: &str, image: &str, uid: &str| {
            let mut template = template(image);
            template["metadata"]["labels"]["pod-template-hash"] = name.into();
            json!({"metadata": {"name": name, "ownerReferences": [{"uid": uid, "controller": true}]}, "spec": {"template": template}})
        };
        let deployment = json!({"metadata": {"uid": "u"}, "spec": {"template": template("2")}});
        let sets = [set("one", "1", "u"), set("two", "2", "u"), set("other", "2", "v")];
        let (old, new) = split(&deployment, &sets);
        assert_eq!((old, new), (vec![&sets[0]], Some(&sets[1])));
    }
}
