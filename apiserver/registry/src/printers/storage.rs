//! Volumes, claims, and what provides them.

use apimachinery::time::Moment;
use serde_json::{Value, json};

use super::format::{self, UNSET, list};
use super::{AGE, Column, NAME, Printer, boolean, cells, integer, text, wide};

const GROUP: &str = "storage.k8s.io";

pub(super) const ALL: &[Printer] = &[
    Printer {
        group: "",
        resource: "persistentvolumes",
        columns: &[
            NAME,
            text("Capacity"),
            text("Access Modes"),
            text("Reclaim Policy"),
            text("Status"),
            text("Claim"),
            text("StorageClass"),
            text("VolumeAttributesClass"),
            text("Reason"),
            AGE,
            wide("VolumeMode"),
        ],
        row: volume,
    },
    Printer {
        group: "",
        resource: "persistentvolumeclaims",
        columns: &[
            NAME,
            text("Status"),
            text("Volume"),
            text("Capacity"),
            text("Access Modes"),
            text("StorageClass"),
            text("VolumeAttributesClass"),
            AGE,
            wide("VolumeMode"),
        ],
        row: claim,
    },
    Printer {
        group: GROUP,
        resource: "storageclasses",
        columns: &[
            NAME,
            text("Provisioner"),
            text("ReclaimPolicy"),
            text("VolumeBindingMode"),
            text("AllowVolumeExpansion"),
            AGE,
        ],
        row: class,
    },
    Printer {
        group: GROUP,
        resource: "csidrivers",
        columns: &[
            NAME,
            boolean("AttachRequired"),
            boolean("PodInfoOnMount"),
            boolean("StorageCapacity"),
            text("TokenRequests"),
            boolean("RequiresRepublish"),
            text("Modes"),
            AGE,
        ],
        row: driver,
    },
    Printer {
        group: GROUP,
        resource: "csinodes",
        columns: &[NAME, integer("Drivers"), AGE],
        row: |node, now| cells(node, [json!(list(&node["spec"]["drivers"]).len()), format::age(node, now)]),
    },
    Printer {
        group: GROUP,
        resource: "volumeattachments",
        columns: &[
            NAME,
            Column { format: "name", ..text("Attacher") },
            text("PV"),
            text("Node"),
            boolean("Attached"),
            AGE,
        ],
        row: |attachment, now| {
            let spec = &attachment["spec"];
            let attached = json!(attachment["status"]["attached"].as_bool().unwrap_or(false));
            let volume = format::text(&spec["source"]["persistentVolumeName"]);
            let node = format::text(&spec["nodeName"]);
            cells(attachment, [format::text(&spec["attacher"]), volume, node, attached, format::age(attachment, now)])
        },
    },
    Printer {
        group: GROUP,
        resource: "volumeattributesclasses",
        columns: &[NAME, text("DriverName"), AGE],
        row: |class, now| {
            let mut row = cells(class, [format::text(&class["driverName"]), format::age(class, now)]);
            mark_default(&mut row, class);
            row
        },
    },
];

/// Access modes by their initials, each once.
fn access_modes(modes: &Value) -> String {
    let has = |mode: &str| list(modes).iter().any(|m| m == mode);
    let known =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    known.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn phase(obj: &Value) -> Value {
    if obj["metadata"]["deletionTimestamp"].is_null() {
        format::text(&obj["status"]["phase"])
    } else {
        json!("Terminating")
    }
}

/// The class, which an annotation named before there was a field.
fn storage_class(obj: &Value) -> Value {
    let old = &obj["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    if old.is_string() { old.clone() } else { format::text(&obj["spec"]["storageClassName"]) }
}

fn volume(volume: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    let claim = &spec["claimRef"];
    let claim = if claim.is_object() {
        format!("{}/{}", format::plain(&claim["namespace"]), format::plain(&claim["name"]))
    } else {
        String::new()
    };
    cells(
        volume,
        [
            json!(format::plain(&spec["capacity"]["storage"])),
            json!(access_modes(&spec["accessModes"])),
            format::text(&spec["persistentVolumeReclaimPolicy"]),
            phase(volume),
            json!(claim),
            storage_class(volume),
            format::text_or(&spec["volumeAttributesClassName"], UNSET),
            format::text(&status["reason"]),
            format::age(volume, now),
            format::text_or(&spec["volumeMode"], UNSET),
        ],
    )
}

fn claim(claim: &Value, now: Moment) -> Vec<Value> {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let bound = spec["volumeName"].as_str().is_some_and(|n| !n.is_empty());
    let (capacity, modes) = if bound {
        (format::plain(&status["capacity"]["storage"]), access_modes(&status["accessModes"]))
    } else {
        (String::new(), String::new())
    };
    cells(
        claim,
        [
            phase(claim),
            format::text(&spec["volumeName"]),
            json!(capacity),
            json!(modes),
            storage_class(claim),
            format::text_or(&spec["volumeAttributesClassName"], UNSET),
            format::age(claim, now),
            format::text_or(&spec["volumeMode"], UNSET),
        ],
    )
}

/// The default class says so after its name.
fn mark_default(row: &mut [Value], class: &Value) {
    let annotations = &class["metadata"]["annotations"];
    let names = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    if names.iter().any(|n| annotations[*n] == "true") {
        row[0] = json!(format!("{} (default)", format::plain(&row[0])));
    }
}

fn class(class: &Value, now: Moment) -> Vec<Value> {
    let rest = [
        format::text(&class["provisioner"]),
        format::text_or(&class["reclaimPolicy"], "Delete"),
        format::text_or(&class["volumeBindingMode"], "Immediate"),
        json!(class["allowVolumeExpansion"].as_bool().unwrap_or(false)),
        format::age(class, now),
    ];
    let mut row = cells(class, rest);
    mark_default(&mut row, class);
    row
}

fn driver(driver: &Value, now: Moment) -> Vec<Value> {
    let spec = &driver["spec"];
    let flag = |field: &str, default: bool| json!(spec[field].as_bool().unwrap_or(default));
    let audiences: Vec<&str> =
        list(&spec["tokenRequests"]).iter().map(|r| r["audience"].as_str().unwrap_or("")).collect();
    let audiences = if audiences.is_empty() { UNSET.to_owned() } else { audiences.join(",") };
    let modes = format::texts(&spec["volumeLifecycleModes"], ",");
    let modes = if modes.is_empty() { "<none>".to_owned() } else { modes };
    cells(
        driver,
        [
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            json!(audiences),
            flag("requiresRepublish", false),
            json!(modes),
            format::age(driver, now),
        ],
    )
}
