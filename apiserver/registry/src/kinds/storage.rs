//! Storage classes, CSI drivers and nodes, attachments, capacities, attribute classes.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{object, set};
use crate::node::Node;
use crate::rules::{labels, resources, volume};
use crate::strategy::Kind;
use crate::warnings;

const TEMPLATE: Kind = Kind { group: "storage.k8s.io", ..Kind::PLAIN };

pub const STORAGE_CLASS: Kind = Kind {
    resource: "storageclasses",
    warnings: |root, _| {
        for topology in root.get("allowedTopologies").items() {
            for expression in topology.get("matchLabelExpressions").items() {
                warnings::node_label(expression.get("key"));
            }
        }
    },
    default: |class| {
        set(class, "reclaimPolicy", "Delete");
        set(class, "volumeBindingMode", "Immediate");
    },
    validate: storage_class,
    transition: |root, old| {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            let node = root.get(field);
            if node.value != &old[field] {
                node.invalid("field is immutable");
            }
        }
    },
    ..TEMPLATE
};

pub const CSI_DRIVER: Kind = Kind {
    resource: "csidrivers",
    unconditional_update: false,
    default: |driver| {
        let spec = object(driver, "spec");
        for (field, value) in [
            ("attachRequired", json!(true)),
            ("podInfoOnMount", json!(false)),
            ("storageCapacity", json!(false)),
            ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
            ("requiresRepublish", json!(false)),
            ("seLinuxMount", json!(false)),
        ] {
            set(spec, field, value);
        }
        if spec["volumeLifecycleModes"].as_array().is_none_or(Vec::is_empty) {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
    },
    validate: |root| csi_driver(root.get("spec")),
    transition: |root, old| {
        let spec = root.get("spec");
        // Kubernetes reports it under a misspelt name.
        spec.get("attachedRequired").with(spec.get("attachRequired").value).immutable(&old["spec"]["attachRequired"]);
        spec.get("volumeLifecycleModes").immutable(&old["spec"]["volumeLifecycleModes"]);
    },
    generation: true,
    // Counted from the first change on.
    create: |driver| {
        object(driver, "metadata").as_object_mut().map(|metadata| metadata.remove("generation"));
    },
    ..TEMPLATE
};

pub const CSI_NODE: Kind = Kind {
    resource: "csinodes",
    unconditional_update: false,
    validate: |root| csi_node(root.get("spec").get("drivers")),
    transition: |root, old| {
        for driver in root.get("spec").get("drivers").items() {
            let known = old["spec"]["drivers"].as_array().into_iter().flatten();
            let before = known.into_iter().find(|d| d["name"] == driver.value["name"]);
            let same = |b: &Value| ["nodeID", "topologyKeys"].iter().all(|f| b[*f] == driver.value[*f]);
            if before.is_some_and(|b| !same(b)) {
                root.get("spec").get("drivers").invalid("field is immutable");
            }
        }
    },
    ..TEMPLATE
};

pub const VOLUME_ATTACHMENT: Kind = Kind {
    resource: "volumeattachments",
    unconditional_update: false,
    validate: |root| attachment(root.get("spec")),
    transition: |root, old| {
        if root.get("spec").value != &old["spec"] {
            root.get("spec").invalid("field is immutable");
        }
    },
    ..TEMPLATE
};

pub const CSI_STORAGE_CAPACITY: Kind = Kind {
    resource: "csistoragecapacities",
    warnings: |root, _| {
        warnings::node_term(root.get("nodeTopology"));
        warnings::node_selector(root.get("nodeTopology").get("matchLabels"));
    },
    unconditional_update: false,
    validate: |root| {
        labels::selector(root.get("nodeTopology"));
        root.get("storageClassName").check(names::dns1123_subdomain);
        for field in ["capacity", "maximumVolumeSize"] {
            if resources::sign(root.get(field).value).is_lt() {
                root.get(field).invalid("must be greater than or equal to 0");
            }
        }
    },
    transition: |root, old| {
        root.get("nodeTopology").immutable(&old["nodeTopology"]);
        root.get("storageClassName").immutable(&old["storageClassName"]);
    },
    ..TEMPLATE
};

pub const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    resource: "volumeattributesclasses",
    validate: |root| {
        provisioner(root.get("driverName"));
        if root.get("parameters").is_empty() {
            root.get("parameters").required("must contain at least one key/value pair");
        }
        parameters(root.get("parameters"));
    },
    transition: |root, old| {
        for field in ["driverName", "parameters"] {
            if root.get(field).value != &old[field] {
                root.get(field).forbidden("updates to this field are forbidden.");
            }
        }
    },
    ..TEMPLATE
};

fn provisioner(name: Node<'_>) {
    if name.need() {
        for message in names::qualified_name(&name.str().to_lowercase()) {
            name.invalid(message);
        }
    }
}

fn parameters(parameters: Node<'_>) {
    const SIZE_MAX: usize = 256 * 1024;
    parameters.at_most(512);
    let mut total = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            parameters.invalid("field can not be empty.");
        }
        total += key.len() + value.len();
    }
    if total > SIZE_MAX {
        parameters.too_long(SIZE_MAX);
    }
}

fn storage_class(root: Node<'_>) {
    provisioner(root.get("provisioner"));
    parameters(root.get("parameters"));
    if !root.get("reclaimPolicy").is_empty() {
        root.get("reclaimPolicy").one_of(&["Delete", "Retain"]);
    }
    root.get("volumeBindingMode").one_of(&["Immediate", "WaitForFirstConsumer"]);
    let mut seen: Vec<Value> = Vec::new();
    for term in root.get("allowedTopologies").items() {
        let expressions = term.get("matchLabelExpressions");
        let normal = topology_term(expressions);
        if expressions.is_empty() || seen.contains(&normal) {
            expressions.duplicate();
        }
        seen.push(normal);
    }
}

/// The requirements of a term, in a form to compare.
fn topology_term(expressions: Node<'_>) -> Value {
    let mut keys: Vec<&str> = Vec::new();
    for expression in expressions.items() {
        let (key, values) = (expression.get("key"), expression.get("values"));
        labels::name(key);
        if values.is_empty() {
            values.required("");
        }
        values.unique();
        if keys.contains(&key.str()) {
            key.duplicate();
        }
        keys.push(key.str());
    }
    expressions.value.clone()
}

fn csi_driver(spec: Node<'_>) {
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.get(field).is_set() {
            spec.get(field).required("");
        }
    }
    spec.get("fsGroupPolicy").one_of_if_set(&["File", "None", "ReadWriteOnceWithFSType"]);
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items() {
        if !matches!(mode.str(), "Persistent" | "Ephemeral") {
            modes.with(mode.value).not_supported(&["Persistent", "Ephemeral"]);
        }
    }
    let mut audiences: Vec<&str> = Vec::new();
    for request in spec.get("tokenRequests").items() {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if audiences.contains(&audience.str()) {
            audience.duplicate();
        }
        audiences.push(audience.str());
        if seconds.is_set() && !(600..=1 << 32).contains(&seconds.int()) {
            seconds.invalid("may not specify a duration less than 10 minutes or larger than 2^32 seconds");
        }
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.is_set() && period.int() < 10 {
        period.invalid("must be greater than or equal to 10 seconds");
    }
}

fn csi_node(drivers: Node<'_>) {
    const NODE_ID_MAX: usize = 192;
    let mut names: Vec<&str> = Vec::new();
    for driver in drivers.items() {
        let (name, id) = (driver.get("name"), driver.get("nodeID"));
        volume::csi_driver_name(name);
        if names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
        if id.need() && id.len() > NODE_ID_MAX {
            id.invalid(format!("must be {NODE_ID_MAX} characters or less"));
        }
        driver.get("allocatable").get("count").non_negative();
        topology_keys(driver);
    }
}

/// Failures stand at the driver.
fn topology_keys(driver: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for key in driver.get("topologyKeys").items() {
        let at = driver.with(key.value);
        if key.is_empty() {
            at.required("");
        }
        if seen.contains(&key.str()) {
            at.duplicate();
        }
        seen.push(key.str());
        for message in apimachinery::names::qualified_name(key.str()) {
            at.invalid(message);
        }
    }
}

fn attachment(spec: Node<'_>) {
    volume::csi_driver_name(spec.get("attacher"));
    spec.get("nodeName").check(names::dns1123_subdomain);
    let source = spec.get("source");
    let (name, inline) = (source.get("persistentVolumeName"), source.get("inlineVolumeSpec"));
    match (name.is_set(), inline.is_set()) {
        (false, false) => source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (true, true) => source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (true, false) => {
            name.need();
            name.check(names::dns1123_subdomain);
        }
        (false, true) => volume::persistent_source(inline),
    }
}
