//! Stateful sets.

use super::page::Page;
use super::related::phases;
use super::time::rfc1123;
use super::{Subject, Wanted, claims, template};
use crate::fields::{self, Fields};

/// Writes a stateful set.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (set, mut page) = (subject.object, Page::default());
    page.head(set);
    page.field(0, "CreationTimestamp", rfc1123(set.at("metadata.creationTimestamp")));
    page.field(0, "Selector", super::bare_selector(set.at("spec.selector")));
    page.tags(set);
    let (desired, total) = (set.int("spec.replicas"), set.int("status.replicas"));
    page.field(0, "Replicas", format_args!("{desired} desired | {total} total"));
    page.field(0, "Update Strategy", set.text("spec.updateStrategy.type"));
    let rolling = set.at("spec.updateStrategy.rollingUpdate");
    if rolling.has("partition") {
        page.field(1, "Partition", rolling.int("partition"));
        if rolling.has("maxUnavailable") {
            page.field(1, "MaxUnavailable", fields::plain(rolling.at("maxUnavailable")));
        }
    }
    page.field(0, "Pods Status", phases(subject.related(Wanted::PodsOfSelector), set.text("metadata.uid")));
    template::describe(&mut page, set.at("spec.template"));
    claims::of_stateful_set(&mut page, set.list("spec.volumeClaimTemplates"));
    page
}
