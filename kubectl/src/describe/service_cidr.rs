//! The ranges of services' addresses, and the addresses that are taken.

use super::Subject;
use super::page::Page;
use crate::fields::{self, Fields};

/// Writes a range of addresses.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (cidr, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(cidr));
    page.tags(cidr);
    page.field(0, "CIDRs", cidr.texts("spec.cidrs").join(", "));
    let conditions = cidr.list("status.conditions");
    if !conditions.is_empty() {
        page.line(0, "Status:\nConditions:");
        page.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t------------------\t------\t-------");
        for condition in conditions {
            page.line(1, super::condition(condition, "\t", &["lastTransitionTime"]));
        }
    }
    page
}

/// Writes an address.
pub fn address(subject: &Subject<'_>) -> Page {
    let (address, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(address));
    page.tags(address);
    let parent = address.at("spec.parentRef");
    if !parent.is_null() {
        page.line(0, "Parent Reference:");
        for (label, field) in
            [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")]
        {
            page.field(1, label, parent.text(field));
        }
    }
    page
}
