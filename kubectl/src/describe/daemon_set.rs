//! Daemon sets.

use super::page::{Page, joined};
use super::related::phases;
use super::{Subject, Wanted, template};
use crate::fields::Fields;

/// Writes a daemon set.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (set, mut page) = (subject.object, Page::default());
    page.head(set);
    page.field(0, "Selector", super::bare_selector(set.at("spec.selector")));
    page.field(0, "Node-Selector", joined(set.at("spec.template.spec.nodeSelector")));
    page.tags(set);
    for (label, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        page.line(0, format_args!("{label}: {}", set.at("status").int(field)));
    }
    page.field(0, "Pods Status", phases(subject.related(Wanted::PodsOfSelector), set.text("metadata.uid")));
    template::describe(&mut page, set.at("spec.template"));
    page
}
