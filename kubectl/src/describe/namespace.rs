//! Namespaces, with their quotas and limits.

use super::page::Page;
use super::{Subject, Wanted, quota};
use crate::fields::{self, Fields};

/// Writes a namespace.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (namespace, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(namespace));
    page.tags(namespace);
    page.field(0, "Status", namespace.text("status.phase"));
    let conditions = namespace.list("status.conditions");
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t------------------\t------\t-------");
        for condition in conditions {
            page.line(1, super::condition(condition, "\t", &["lastTransitionTime"]));
        }
    }
    if let Ok(quotas) = subject.tried(Wanted::Quotas) {
        page.line(0, "");
        quota::resource_quotas(&mut page, quotas);
    }
    if let Ok(limits) = subject.tried(Wanted::LimitRanges) {
        page.line(0, "");
        quota::limit_ranges(&mut page, limits);
    }
    page
}
