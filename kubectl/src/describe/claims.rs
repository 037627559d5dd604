//! Claims for persistent volumes: whole, as templates of a pod's volumes, and as templates of stateful sets.

use jiff::Timestamp;
use serde_json::Value;

use super::containers::quantity;
use super::page::{Page, go_list, pairs};
use super::time::since;
use super::{Subject, Wanted};
use crate::fields::{self, Fields};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A claim of its own.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (claim, mut page) = (subject.object, Page::default());
    page.head(claim);
    page.field(0, "StorageClass", class(claim));
    page.field(0, "Status", phase(claim, subject.now));
    page.field(0, "Volume", claim.text("spec.volumeName"));
    page.tags(claim);
    page.field(0, "Finalizers", go_list(&claim.texts("metadata.finalizers")));
    storage(&mut page, "", claim);
    page.block("Used By", &users(subject));
    if !claim.list("status.conditions").is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
        for condition in claim.list("status.conditions") {
            page.line(1, super::condition(condition, " \t", &["lastProbeTime", "lastTransitionTime"]));
        }
    }
    page
}

/// The phase of a claim or a volume, or that it is going.
pub fn phase(object: &Value, now: Timestamp) -> String {
    match object.at("metadata.deletionTimestamp") {
        Value::Null => object.text("status.phase").to_owned(),
        time => format!("Terminating (lasts {})", since(time, now)),
    }
}

fn class(claim: &Value) -> &str {
    match claim["metadata"]["annotations"][CLASS].as_str() {
        Some(class) => class,
        None => claim.text("spec.storageClassName"),
    }
}

/// The pods in the claim's namespace that mount it.
fn users(subject: &Subject<'_>) -> Vec<String> {
    let claim = subject.object;
    let owners = claim.list("metadata.ownerReferences");
    let uses = |pod: &&Value| {
        let mounted = pod
            .list("spec.volumes")
            .iter()
            .any(|volume| volume.text("persistentVolumeClaim.claimName") == fields::name(claim));
        let owned =
            owners.iter().any(|owner| owner.text("kind") == "Pod" && owner.text("uid") == pod.text("metadata.uid"));
        mounted || owned
    };
    let mut names: Vec<String> =
        subject.related(Wanted::Pods).iter().filter(uses).map(|pod| fields::name(pod).to_owned()).collect();
    names.sort();
    names
}

fn storage(page: &mut Page, indent: &str, claim: &Value) {
    let bound = !claim.text("spec.volumeName").is_empty();
    let capacity = if bound { amount(claim.at("status.capacity.storage")) } else { String::new() };
    let modes = if bound { access_modes(&claim.texts("status.accessModes")) } else { String::new() };
    page.line(0, format_args!("{indent}Capacity:\t{capacity}"));
    page.line(0, format_args!("{indent}Access Modes:\t{modes}"));
    if claim.has("spec.volumeMode") {
        page.line(0, format_args!("{indent}VolumeMode:\t{}", claim.text("spec.volumeMode")));
    }
    let source = claim.at("spec.dataSource");
    if !source.is_null() {
        page.line(0, format_args!("{indent}DataSource:"));
        for (label, field) in [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")] {
            if label != "APIGroup" || source.has(field) {
                page.line(1, format_args!("{indent}{label}:\t{}", source.text(field)));
            }
        }
    }
}

/// An amount; 0 where there is none.
pub fn amount(value: &Value) -> String {
    if value.is_null() { "0".to_owned() } else { quantity(value) }
}

/// `RWO,ROX`.
pub fn access_modes(modes: &[&str]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let known = SHORT.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short);
    known.collect::<Vec<_>>().join(",")
}

/// The claim that a pod's ephemeral volume is made of.
pub fn template(page: &mut Page, template: &Value) {
    const INDENT: &str = "    ";
    page.line(0, format_args!("{INDENT}StorageClass:\t{}", class(template)));
    page.line(0, format_args!("{INDENT}Volume:\t{}", template.text("spec.volumeName")));
    nested(page, INDENT, "Labels", pairs(template.at("metadata.labels")));
    nested(page, INDENT, "Annotations", pairs(template.at("metadata.annotations")));
    storage(page, INDENT, template);
}

fn nested(page: &mut Page, indent: &str, title: &str, lines: Vec<String>) {
    let lines = if lines.is_empty() { vec!["<none>".to_owned()] } else { lines };
    page.nested_block(indent, title, &lines);
}

/// The claims that a stateful set makes for each of its pods.
pub fn of_stateful_set(page: &mut Page, templates: &[Value]) {
    if templates.is_empty() {
        return page.field(0, "Volume Claims", "<none>");
    }
    page.line(0, "Volume Claims:");
    for claim in templates {
        page.field(1, "Name", fields::name(claim));
        page.field(1, "StorageClass", class(claim));
        page.block_at("  ", "Labels", &pairs(claim.at("metadata.labels")));
        page.block_at("  ", "Annotations", &pairs(claim.at("metadata.annotations")));
        let capacity = claim.at("spec.resources.requests.storage");
        page.field(1, "Capacity", if capacity.is_null() { "<default>".to_owned() } else { quantity(capacity) });
        page.field(1, "Access Modes", go_list(&claim.texts("spec.accessModes")));
    }
}

/// A persistent volume.
pub fn volume(subject: &Subject<'_>) -> Page {
    let (volume, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(volume));
    page.tags(volume);
    page.field(0, "Finalizers", go_list(&volume.texts("metadata.finalizers")));
    page.field(0, "StorageClass", class(volume));
    page.field(0, "Status", phase(volume, subject.now));
    let claim = volume.at("spec.claimRef");
    let claim =
        if claim.is_null() { String::new() } else { format!("{}/{}", claim.text("namespace"), claim.text("name")) };
    page.field(0, "Claim", claim);
    page.field(0, "Reclaim Policy", volume.text("spec.persistentVolumeReclaimPolicy"));
    page.field(0, "Access Modes", access_modes(&volume.texts("spec.accessModes")));
    if volume.has("spec.volumeMode") {
        page.field(0, "VolumeMode", volume.text("spec.volumeMode"));
    }
    page.field(0, "Capacity", amount(volume.at("spec.capacity.storage")));
    affinity(&mut page, volume.at("spec.nodeAffinity.required"));
    page.field(0, "Message", volume.text("status.message"));
    page.line(0, "Source:");
    super::volumes::source(&mut page, volume.at("spec"), true);
    page
}

fn affinity(page: &mut Page, required: &Value) {
    if required.is_null() {
        return page.field(0, "Node Affinity", "<none>");
    }
    page.field(0, "Node Affinity", "");
    let terms = required.list("nodeSelectorTerms");
    page.field(1, "Required Terms", if terms.is_empty() { "<none>" } else { "" });
    for (index, term) in terms.iter().enumerate() {
        let requirement = |requirement: &Value| {
            let values = requirement.texts("values");
            let values = if values.is_empty() { String::new() } else { format!(" [{}]", values.join(", ")) };
            format!("{} {}{values}", requirement.text("key"), requirement.text("operator").to_lowercase())
        };
        let lines: Vec<String> = term.list("matchExpressions").iter().map(requirement).collect();
        page.block_at("    ", &format!("Term {index}"), &lines);
    }
}
