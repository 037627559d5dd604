//! Endpoint slices.

use serde_json::Value;

use super::Subject;
use super::page::{Page, UNSET, listed, or_unset};
use crate::fields::{self, Fields};

/// Writes an endpoint slice.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (slice, mut page) = (subject.object, Page::default());
    page.head(slice);
    page.tags(slice);
    page.field(0, "AddressType", slice.text("addressType"));
    match slice.list("ports") {
        [] => page.line(0, "Ports: <unset>"),
        ports => {
            page.line(0, "Ports:");
            page.line(1, "Name\tPort\tProtocol");
            page.line(1, "----\t----\t--------");
            for port in ports {
                let name = fields::or(port.text("name"), UNSET);
                page.line(1, format_args!("{name}\t{}\t{}", or_unset(port.at("port")), port.text("protocol")));
            }
        }
    }
    match slice.list("endpoints") {
        [] => page.line(0, "Endpoints: <none>"),
        endpoints => {
            page.line(0, "Endpoints:");
            endpoints.iter().for_each(|endpoint| one(&mut page, endpoint));
        }
    }
    page
}

fn one(page: &mut Page, endpoint: &Value) {
    page.field(1, "- Addresses", listed(&endpoint.texts("addresses"), ", "));
    page.line(2, "Conditions:");
    page.field(3, "Ready", or_unset(endpoint.at("conditions.ready")));
    page.field(2, "Hostname", or_unset(endpoint.at("hostname")));
    if endpoint.has("targetRef") {
        let (kind, name) = (endpoint.text("targetRef.kind"), endpoint.text("targetRef.name"));
        page.field(2, "TargetRef", format_args!("{kind}/{name}"));
    }
    page.field(2, "NodeName", or_unset(endpoint.at("nodeName")));
    page.field(2, "Zone", or_unset(endpoint.at("zone")));
}

/// Whether an endpoint takes traffic; one that does not say does.
pub fn ready(endpoint: &Value) -> bool {
    endpoint.at("conditions.ready").as_bool().unwrap_or(true)
}
