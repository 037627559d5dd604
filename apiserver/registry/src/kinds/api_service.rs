//! API services: groups and versions served by this server or by others.

use apimachinery::names;

use crate::defaults::{at, set};
use crate::node::Node;
use crate::rules::probe;
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "apiregistration.k8s.io",
    resource: "apiservices",
    name: names::path_segment,
    default: |service| {
        if let Some(service) = at(service, &["spec", "service"]) {
            set(service, "port", 443);
        }
    },
    validate,
    ..Kind::PLAIN
};

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1000;

fn validate(root: Node<'_>) {
    let spec = root.get("spec");
    let (group, version, name) = (spec.get("group"), spec.get("version"), root.get("metadata").get("name"));
    let wanted = format!("{}.{}", version.str(), group.str());
    if !name.is_empty() && name.str() != wanted {
        name.invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
    }
    if group.is_empty() {
        if version.str() != "v1" {
            group.required("only v1 may have an empty group and it better be legacy kube");
        }
    } else {
        group.check(names::dns1123_subdomain);
    }
    for message in names::dns1035_label(version.str()) {
        version.invalid(message);
    }
    priority(spec.get("groupPriorityMinimum"), GROUP_PRIORITY_MAX);
    priority(spec.get("versionPriority"), VERSION_PRIORITY_MAX);
    backend(spec);
}

fn priority(priority: Node<'_>, max: i64) {
    if !(1..=max).contains(&priority.int()) {
        priority.invalid(format!("must be positive and less than or equal to {max}"));
    }
}

fn backend(spec: Node<'_>) {
    let (service, bundle, insecure) = (spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify"));
    if !service.is_set() {
        if !bundle.is_empty() {
            bundle.invalid("local APIServices may not have a caBundle");
        }
        if insecure.bool() {
            insecure.invalid("local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    service.get("namespace").need();
    service.get("name").need();
    probe::port_number(service.get("port"));
    if insecure.bool() && !bundle.is_empty() {
        insecure.invalid("may not be true if caBundle is present");
    }
}
