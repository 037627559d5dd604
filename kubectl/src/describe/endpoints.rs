//! Endpoints, as services had them before slices.

use serde_json::Value;

use super::Subject;
use super::page::{Page, UNSET, listed};
use crate::fields::{self, Fields};

/// Writes endpoints.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (endpoints, mut page) = (subject.object, Page::default());
    page.head(endpoints);
    page.tags(endpoints);
    page.line(0, "Subsets:");
    for subset in endpoints.list("subsets") {
        page.field(1, "Addresses", addresses(subset.list("addresses")));
        page.field(1, "NotReadyAddresses", addresses(subset.list("notReadyAddresses")));
        let ports = subset.list("ports");
        if !ports.is_empty() {
            page.line(1, "Ports:");
            page.line(2, "Name\tPort\tProtocol");
            page.line(2, "----\t----\t--------");
        }
        for port in ports {
            let name = fields::or(port.text("name"), UNSET);
            page.line(2, format_args!("{name}\t{}\t{}", port.int("port"), port.text("protocol")));
        }
        page.line(0, "");
    }
    page
}

fn addresses(list: &[Value]) -> String {
    listed(&list.iter().map(|address| address.text("ip")).collect::<Vec<_>>(), ",")
}
