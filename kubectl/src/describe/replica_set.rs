//! Replica sets, and the replication controllers that they replace.

use super::page::{Page, controller, joined};
use super::related::phases;
use super::{Subject, Wanted, template};
use crate::fields::Fields;

/// Writes a replica set.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (set, mut page) = (subject.object, Page::default());
    page.head(set);
    page.field(0, "Selector", super::selector(set.at("spec.selector")));
    page.tags(set);
    if let Some(controller) = controller(set) {
        page.field(0, "Controlled By", controller);
    }
    rest(page, subject)
}

/// Writes a replication controller.
pub fn replication_controller(subject: &Subject<'_>) -> Page {
    let (controller, mut page) = (subject.object, Page::default());
    page.head(controller);
    page.field(0, "Selector", joined(controller.at("spec.selector")));
    page.tags(controller);
    rest(page, subject)
}

fn rest(mut page: Page, subject: &Subject<'_>) -> Page {
    let set = subject.object;
    let (current, desired) = (set.int("status.replicas"), set.int("spec.replicas"));
    page.field(0, "Replicas", format_args!("{current} current / {desired} desired"));
    match subject.tried(Wanted::PodsOfSelector) {
        Ok(pods) => page.field(0, "Pods Status", phases(pods, set.text("metadata.uid"))),
        Err(error) => page.field(0, "Pods Status", format_args!("error in fetching pods: {error}")),
    }
    template::describe(&mut page, set.at("spec.template"));
    super::short_conditions(&mut page, set);
    page
}
