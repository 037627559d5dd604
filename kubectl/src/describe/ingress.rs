//! Ingresses and their classes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::page::{NONE, Page};
use super::service::endpoints;
use super::{Subject, Wanted};
use crate::fields::{self, Fields};

/// Writes an ingress.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (ingress, mut page) = (subject.object, Page::default());
    let spec = ingress.at("spec");
    page.field(0, "Name", fields::name(ingress));
    page.labels("Labels", ingress.at("metadata.labels"));
    page.field(0, "Namespace", fields::namespace(ingress));
    page.field(0, "Address", addresses(ingress.list("status.loadBalancer.ingress")));
    let class = spec.at("ingressClassName").as_str().unwrap_or(NONE);
    page.field(0, "Ingress Class", class);
    let default = spec.at("defaultBackend");
    let default = if default.is_null() { "<default>".to_owned() } else { backend(subject, default) };
    page.field(0, "Default backend", &default);
    if !spec.list("tls").is_empty() {
        page.line(0, "TLS:");
    }
    for tls in spec.list("tls") {
        let hosts = tls.texts("hosts").join(",");
        match tls.text("secretName") {
            "" => page.line(1, format_args!("SNI routes {hosts}")),
            secret => page.line(1, format_args!("{secret} terminates {hosts}")),
        }
    }
    page.line(0, "Rules:\n  Host\tPath\tBackends");
    page.line(1, "----\t----\t--------");
    let rules: Vec<&Value> = spec.list("rules").iter().filter(|rule| rule.has("http")).collect();
    for rule in &rules {
        page.line(1, format_args!("{}\t", fields::or(rule.text("host"), "*")));
        for path in rule.list("http.paths") {
            page.line(2, format_args!("\t{} \t{}", path.text("path"), backend(subject, path.at("backend"))));
        }
    }
    if rules.is_empty() {
        page.line(1, format_args!("*\t*\t{default}"));
    }
    page.annotations("Annotations", ingress.at("metadata.annotations"));
    page
}

fn addresses(ingress: &[Value]) -> String {
    let address = |ingress| fields::or(Fields::text(ingress, "ip"), Fields::text(ingress, "hostname"));
    let sorted: BTreeSet<&str> = ingress.iter().map(address).filter(|text| !text.is_empty()).collect();
    sorted.into_iter().collect::<Vec<_>>().join(",")
}

/// Where requests go: a service with its addresses, or another resource.
fn backend(subject: &Subject<'_>, backend: &Value) -> String {
    let resource = backend.at("resource");
    if !resource.is_null() {
        let group = resource.at("apiGroup").as_str().unwrap_or(NONE);
        return format!("APIGroup: {group}, Kind: {}, Name: {}", resource.text("kind"), resource.text("name"));
    }
    let (name, port) = (backend.text("service.name"), backend.at("service.port"));
    let number = port.int("number");
    let shown = if number == 0 { port.text("name").to_owned() } else { number.to_string() };
    let behind = match (subject.tried(Wanted::AllEndpointSlices), subject.tried(Wanted::Services)) {
        (Err(error), _) | (_, Err(error)) => format!("<error: {error}>"),
        (Ok(slices), Ok(services)) => match services.iter().find(|service| fields::name(service) == name) {
            None => format!("<error: services \"{name}\" not found>"),
            Some(service) => {
                let of = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name;
                let slices: Vec<Value> = slices.iter().filter(of).cloned().collect();
                endpoints(&slices, port_name(service, port))
            }
        },
    };
    format!("{name}:{shown} ({behind})")
}

/// The name of the service's port that a backend means by number or name.
fn port_name<'a>(service: &'a Value, port: &Value) -> &'a str {
    let (number, name) = (port.int("number"), port.text("name"));
    let means =
        |one: &&Value| (number != 0 && one.int("port") == number) || (!name.is_empty() && one.text("name") == name);
    service.list("spec.ports").iter().rev().find(means).map_or("", |one| one.text("name"))
}

/// Writes an ingress class.
pub fn class(subject: &Subject<'_>) -> Page {
    let (class, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(class));
    page.tags(class);
    page.field(0, "Controller", class.text("spec.controller"));
    let parameters = class.at("spec.parameters");
    if !parameters.is_null() {
        page.line(0, "Parameters:");
        if parameters.has("apiGroup") {
            page.field(1, "APIGroup", parameters.text("apiGroup"));
        }
        page.field(1, "Kind", parameters.text("kind"));
        page.field(1, "Name", parameters.text("name"));
    }
    page
}
