//! Volumes of pods, and sources of persistent volumes: one table says what is shown of each kind.

use serde_json::Value;

use super::claims;
use super::page::{NONE, Page, UNSET, go};
use crate::fields::{self, Fields};

/// How a field of a volume is shown.
#[derive(Clone, Copy)]
enum Show {
    /// As it is; nothing where it is missing.
    Text,
    /// A whole number; 0 where it is missing.
    Number,
    /// `true` or `false`.
    Flag,
    /// As it is, or another text.
    Or(&'static str),
    /// A list as Go prints it.
    List,
    /// A list with commas.
    Commas,
    /// A reference to a secret as Go prints it.
    Secret,
    /// A map as Go prints it.
    Map,
}
use Show::{Commas, Flag, List, Map, Number, Or, Secret, Text};

/// A kind of volume: its field, what it is, and the lines that are shown.
struct Kind {
    field: &'static str,
    is: &'static str,
    lines: &'static [(&'static str, &'static str, Show)],
}

const fn kind(field: &'static str, is: &'static str, lines: &'static [(&'static str, &'static str, Show)]) -> Kind {
    Kind { field, is, lines }
}

const KINDS: &[Kind] = &[
    kind(
        "hostPath",
        "HostPath (bare host directory volume)",
        &[("Path:", "path", Text), ("HostPathType:", "type", Or(NONE))],
    ),
    kind(
        "gcePersistentDisk",
        "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)",
        &[
            ("PDName:", "pdName", Text),
            ("FSType:", "fsType", Text),
            ("Partition:", "partition", Number),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "awsElasticBlockStore",
        "AWSElasticBlockStore (a Persistent Disk resource in AWS)",
        &[
            ("VolumeID:", "volumeID", Text),
            ("FSType:", "fsType", Text),
            ("Partition:", "partition", Number),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "gitRepo",
        "GitRepo (a volume that is pulled from git when the pod is created)",
        &[("Repository:", "repository", Text), ("Revision:", "revision", Text)],
    ),
    kind(
        "secret",
        "Secret (a volume populated by a Secret)",
        &[("SecretName:", "secretName", Text), ("Optional:", "optional", Flag)],
    ),
    kind(
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[("Name:", "name", Text), ("Optional:", "optional", Flag)],
    ),
    kind(
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[("Server:", "server", Text), ("Path:", "path", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    kind(
        "iscsi",
        "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)",
        &[
            ("TargetPortal:", "targetPortal", Text),
            ("IQN:", "iqn", Text),
            ("Lun:", "lun", Number),
            ("ISCSIInterface", "iscsiInterface", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
            ("Portals:", "portals", List),
            ("DiscoveryCHAPAuth:", "chapAuthDiscovery", Flag),
            ("SessionCHAPAuth:", "chapAuthSession", Flag),
            ("SecretRef:", "secretRef", Secret),
            ("InitiatorName:", "initiatorName", Or(NONE)),
        ],
    ),
    kind(
        "glusterfs",
        "Glusterfs (a Glusterfs mount on the host that shares a pod's lifetime)",
        &[("EndpointsName:", "endpoints", Text), ("Path:", "path", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    kind(
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName:", "claimName", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    kind(
        "rbd",
        "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)",
        &[
            ("CephMonitors:", "monitors", List),
            ("RBDImage:", "image", Text),
            ("FSType:", "fsType", Text),
            ("RBDPool:", "pool", Text),
            ("RadosUser:", "user", Text),
            ("Keyring:", "keyring", Text),
            ("SecretRef:", "secretRef", Secret),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "quobyte",
        "Quobyte (a Quobyte mount on the host that shares a pod's lifetime)",
        &[("Registry:", "registry", Text), ("Volume:", "volume", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    kind(
        "azureDisk",
        "AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)",
        &[
            ("DiskName:", "diskName", Text),
            ("DiskURI:", "diskURI", Text),
            ("Kind: ", "kind", Text),
            ("FSType:", "fsType", Text),
            ("CachingMode:", "cachingMode", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "vsphereVolume",
        "vSphereVolume (a Persistent Disk resource in vSphere)",
        &[
            ("VolumePath:", "volumePath", Text),
            ("FSType:", "fsType", Text),
            ("StoragePolicyName:", "storagePolicyName", Text),
        ],
    ),
    kind(
        "cinder",
        "Cinder (a Persistent Disk resource in OpenStack)",
        &[
            ("VolumeID:", "volumeID", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
            ("SecretRef:", "secretRef", Secret),
        ],
    ),
    kind(
        "photonPersistentDisk",
        "PhotonPersistentDisk (a Persistent Disk resource in photon platform)",
        &[("PdID:", "pdID", Text), ("FSType:", "fsType", Text)],
    ),
    kind("portworxVolume", "PortworxVolume (a Portworx Volume resource)", &[("VolumeID:", "volumeID", Text)]),
    kind(
        "scaleIO",
        "ScaleIO (a persistent volume backed by a block device in ScaleIO)",
        &[
            ("Gateway:", "gateway", Text),
            ("System:", "system", Text),
            ("Protection Domain:", "protectionDomain", Text),
            ("Storage Pool:", "storagePool", Text),
            ("Storage Mode:", "storageMode", Text),
            ("VolumeName:", "volumeName", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "cephfs",
        "CephFS (a CephFS mount on the host that shares a pod's lifetime)",
        &[
            ("Monitors:", "monitors", List),
            ("Path:", "path", Text),
            ("User:", "user", Text),
            ("SecretFile:", "secretFile", Text),
            ("SecretRef:", "secretRef", Secret),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "storageos",
        "StorageOS (a StorageOS Persistent Disk resource)",
        &[
            ("VolumeName:", "volumeName", Text),
            ("VolumeNamespace:", "volumeNamespace", Text),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "fc",
        "FC (a Fibre Channel disk)",
        &[
            ("TargetWWNs:", "targetWWNs", Commas),
            ("LUN:", "lun", Or(NONE)),
            ("FSType:", "fsType", Text),
            ("ReadOnly:", "readOnly", Flag),
        ],
    ),
    kind(
        "azureFile",
        "AzureFile (an Azure File Service mount on the host and bind mount to the pod)",
        &[("SecretName:", "secretName", Text), ("ShareName:", "shareName", Text), ("ReadOnly:", "readOnly", Flag)],
    ),
    kind(
        "flexVolume",
        "FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)",
        &[
            ("Driver:", "driver", Text),
            ("FSType:", "fsType", Text),
            ("SecretRef:", "secretRef", Secret),
            ("ReadOnly:", "readOnly", Flag),
            ("Options:", "options", Map),
        ],
    ),
    kind(
        "flocker",
        "Flocker (a Flocker volume mounted by the Flocker agent)",
        &[("DatasetName:", "datasetName", Text), ("DatasetUUID:", "datasetUUID", Text)],
    ),
    kind(
        "image",
        "Image (a container image or OCI artifact)",
        &[("Reference:", "reference", Text), ("PullPolicy:", "pullPolicy", Text)],
    ),
    kind("local", "LocalVolume (a persistent volume backed by local storage on a node)", &[("Path:", "path", Text)]),
];

/// The volumes of a pod or a template.
pub fn describe(page: &mut Page, indent: &str, volumes: &[Value]) {
    if volumes.is_empty() {
        return page.line(0, format_args!("{indent}Volumes:\t{NONE}"));
    }
    page.line(0, format_args!("{indent}Volumes:"));
    let before = if indent.is_empty() { "" } else { " " };
    for volume in volumes {
        page.line(1, format_args!("{before}{}:", volume.text("name")));
        source(page, volume, false);
    }
}

/// What a volume is made of; `persistent` sources show a little more.
pub fn source(page: &mut Page, volume: &Value, persistent: bool) {
    if volume.has("emptyDir") {
        empty_dir(page, volume.at("emptyDir"));
    } else if volume.has("ephemeral") {
        ephemeral(page, volume.at("ephemeral"));
    } else if volume.has("downwardAPI") {
        downward(page, volume.at("downwardAPI"));
    } else if volume.has("projected") {
        projected(page, volume.at("projected"));
    } else if volume.has("csi") {
        csi(page, volume.at("csi"), persistent);
    } else if let Some(kind) = KINDS.iter().find(|kind| volume.has(kind.field)) {
        of_kind(page, kind, volume.at(kind.field));
    } else {
        page.line(1, "<unknown>");
    }
}

fn of_kind(page: &mut Page, kind: &Kind, source: &Value) {
    page.field(2, "Type", kind.is);
    for (label, field, show) in kind.lines {
        page.line(2, format_args!("{label}\t{}", shown(source.at(field), *show)));
    }
}

fn shown(value: &Value, show: Show) -> String {
    match show {
        Text => fields::plain(value),
        Number => value.as_i64().unwrap_or(0).to_string(),
        Flag => value.as_bool().unwrap_or(false).to_string(),
        Or(other) if value.is_null() => other.to_owned(),
        Or(_) => fields::plain(value),
        List if value.is_null() => "[]".to_owned(),
        List => go(value),
        Commas => value.texts("").join(", "),
        Secret if value.is_null() => "nil".to_owned(),
        Secret => secret_reference(value),
        Map if value.is_null() => "map[]".to_owned(),
        Map => go(value),
    }
}

fn secret_reference(value: &Value) -> String {
    let name = value.text("name");
    match value.text("namespace") {
        "" => format!("&LocalObjectReference{{Name:{name},}}"),
        namespace => format!("&SecretReference{{Name:{name},Namespace:{namespace},}}"),
    }
}

fn empty_dir(page: &mut Page, source: &Value) {
    let limit = super::containers::quantity(source.at("sizeLimit"));
    page.field(2, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
    page.field(2, "Medium", source.text("medium"));
    page.field(2, "SizeLimit", if limit.is_empty() || limit == "0" { UNSET } else { &limit });
}

fn ephemeral(page: &mut Page, source: &Value) {
    page.field(
        2,
        "Type",
        "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
    );
    if source.has("volumeClaimTemplate") {
        claims::template(page, source.at("volumeClaimTemplate"));
    }
}

fn downward(page: &mut Page, source: &Value) {
    page.field(2, "Type", "DownwardAPI (a volume populated by information about the pod)");
    page.line(2, "Items:");
    for item in source.list("items") {
        let path = item.text("path");
        if item.has("fieldRef") {
            page.line(3, format_args!("{} -> {path}", item.text("fieldRef.fieldPath")));
        }
        if item.has("resourceFieldRef") {
            page.line(3, format_args!("{} -> {path}", item.text("resourceFieldRef.resource")));
        }
    }
}

fn projected(page: &mut Page, source: &Value) {
    page.field(2, "Type", "Projected (a volume that contains injected data from multiple sources)");
    for source in source.list("sources") {
        for (field, label) in [("secret", "SecretName"), ("configMap", "ConfigMapName")] {
            if source.has(field) {
                page.field(2, label, source.at(field).text("name"));
                page.field(2, "Optional", source.at(field).flag("optional"));
            }
        }
        if source.has("downwardAPI") {
            page.field(2, "DownwardAPI", "true");
        }
        if source.has("serviceAccountToken") {
            page.field(2, "TokenExpirationSeconds", source.int("serviceAccountToken.expirationSeconds"));
        }
    }
}

fn csi(page: &mut Page, source: &Value, persistent: bool) {
    page.field(2, "Type", "CSI (a Container Storage Interface (CSI) volume source)");
    page.field(2, "Driver", source.text("driver"));
    page.field(2, "FSType", source.text("fsType"));
    if persistent {
        page.field(2, "VolumeHandle", source.text("volumeHandle"));
    }
    page.field(2, "ReadOnly", source.flag("readOnly"));
    let attributes = super::page::pairs(source.at("volumeAttributes"));
    if attributes.is_empty() {
        page.field(2, "VolumeAttributes", NONE);
    } else {
        page.nested_block("    ", "VolumeAttributes", &attributes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(volume: &Value) -> String {
        let mut page = Page::default();
        source(&mut page, volume, false);
        page.finish()
    }

    #[test]
    fn a_volume_says_what_it_is_made_of() {
        let host = json!({"hostPath": {"path": "/x"}});
        assert_eq!(
            text(&host),
            "    Type:          HostPath (bare host directory volume)\n    Path:          /x\n    HostPathType:  <none>\n"
        );
        assert_eq!(text(&json!({"new": {}})), "  <unknown>\n");
    }

    #[test]
    fn attributes_are_indented_as_in_the_original() {
        let csi = json!({"csi": {"driver": "d", "volumeAttributes": {"a": "1", "b": "2"}}});
        let lines: Vec<String> = text(&csi).lines().skip(4).map(str::to_owned).collect();
        assert_eq!(lines, ["    VolumeAttributes:      a=1", "                           b=2"]);
    }
}
