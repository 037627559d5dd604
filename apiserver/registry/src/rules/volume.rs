//! Volumes: exactly one source each, and the rules of each source.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::{downward, resources};

type SourceRule = fn(Node<'_>);

/// Sources of a pod's volume that a persistent volume can have too.
const SHARED: [(&str, SourceRule); 18] = [
    ("hostPath", host_path),
    ("gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", aws_disk),
    ("nfs", nfs),
    ("iscsi", iscsi),
    ("glusterfs", glusterfs),
    ("rbd", rbd),
    ("cinder", cinder),
    ("cephfs", cephfs),
    ("flocker", flocker),
    ("fc", fibre_channel),
    ("azureFile", azure_file),
    ("vsphereVolume", vsphere),
    ("quobyte", quobyte),
    ("azureDisk", azure_disk),
    ("photonPersistentDisk", photon),
    ("portworxVolume", portworx),
    ("scaleIO", scale_io),
];
const POD_ONLY: [(&str, SourceRule); 11] = [
    ("emptyDir", empty_dir),
    ("gitRepo", git_repo),
    ("secret", secret),
    ("persistentVolumeClaim", claim),
    ("downwardAPI", downward_api),
    ("configMap", config_map),
    ("projected", projected),
    ("csi", csi),
    ("ephemeral", ephemeral),
    ("image", image),
    ("storageos", |_| {}),
];

/// `volumes` of a pod. Returns the names of the good ones.
pub fn volumes<'a>(list: Node<'a>) -> Vec<(&'a str, &'a Value)> {
    let mut good: Vec<(&str, &Value)> = Vec::new();
    let mut all: Vec<&str> = Vec::new();
    for volume in list.items() {
        let before = volume.errors_so_far();
        source(volume, &POD_ONLY);
        let name = volume.get("name");
        if name.is_empty() {
            name.required("");
        } else {
            name.check(names::dns1123_label);
            if all.contains(&name.str()) {
                name.duplicate();
            }
        }
        if volume.errors_so_far() == before {
            good.push((name.str(), volume.value));
        }
        all.push(name.str());
    }
    good
}

/// Exactly one source, which keeps its rules. `extra` are the sources of only this kind of volume.
fn source(volume: Node<'_>, extra: &[(&'static str, SourceRule)]) {
    let mut found = 0;
    for (field, rule) in extra.iter().chain(&SHARED) {
        if !volume.value[*field].is_object() {
            continue;
        }
        found += 1;
        let at = volume.get(field);
        if found > 1 {
            at.forbidden("may not specify more than 1 volume type");
        } else {
            rule(at);
        }
    }
    if found == 0 && !volume.value["flexVolume"].is_object() {
        volume.required("must specify a volume type");
    }
    let flex = volume.get("flexVolume");
    if flex.is_set() {
        flex.get("driver").need();
    }
}

/// The source of a persistent volume.
pub fn persistent_source(spec: Node<'_>) {
    const PERSISTENT: [(&str, SourceRule); 3] = [("local", local), ("csi", persistent_csi), ("storageos", |_| {})];
    source(spec, &PERSISTENT);
}

fn backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

fn no_backsteps(node: Node<'_>) {
    if backsteps(node.str()) {
        node.invalid("must not contain '..'");
    }
}

/// A relative path that does not lead upwards.
pub fn local_descending_path(node: Node<'_>) {
    if node.str().starts_with('/') {
        node.invalid("must be a relative path");
    }
    no_backsteps(node);
}

fn local_unreserved_path(node: Node<'_>) {
    local_descending_path(node);
    if node.str().starts_with("..") && !node.str().starts_with("../") && node.str() != ".." {
        node.invalid("must not start with '..'");
    }
}

fn file_mode(mode: Node<'_>) {
    if mode.opt_int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        mode.invalid("must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn partition(node: Node<'_>) {
    node.within(0, 255);
}

fn host_path(source: Node<'_>) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if source.get("path").need() {
        no_backsteps(source.get("path"));
    }
    source.get("type").one_of_if_set(&TYPES);
}

fn empty_dir(source: Node<'_>) {
    let limit = source.get("sizeLimit");
    if resources::sign(limit.value).is_lt() {
        limit.forbidden("SizeLimit field must be a valid resource quantity");
    }
}

fn git_repo(source: Node<'_>) {
    source.get("repository").need();
    local_descending_path(source.get("directory"));
}

fn gce_disk(source: Node<'_>) {
    source.get("pdName").need();
    partition(source.get("partition"));
}

fn aws_disk(source: Node<'_>) {
    source.get("volumeID").need();
    partition(source.get("partition"));
}

fn key_to_path(item: Node<'_>) {
    item.get("key").need();
    item.get("path").need();
    local_unreserved_path(item.get("path"));
    file_mode(item.get("mode"));
}

fn secret(source: Node<'_>) {
    source.get("secretName").need();
    file_mode(source.get("defaultMode"));
    source.get("items").items().for_each(key_to_path);
}

fn config_map(source: Node<'_>) {
    source.get("name").need();
    file_mode(source.get("defaultMode"));
    source.get("items").items().for_each(key_to_path);
}

fn nfs(source: Node<'_>) {
    source.get("server").need();
    let path = source.get("path");
    path.need();
    if !path.str().starts_with('/') {
        path.invalid("must be an absolute path");
    }
}

fn iscsi(source: Node<'_>) {
    source.get("targetPortal").need();
    let iqn = source.get("iqn");
    if iqn.need() && !["iqn", "eui", "naa"].iter().any(|p| iqn.str().starts_with(p)) {
        iqn.invalid("must be valid format starting with iqn, eui, or naa");
    }
    source.get("lun").within(0, 255);
    let chap = source.get("chapAuthDiscovery").bool() || source.get("chapAuthSession").bool();
    if chap && !source.get("secretRef").is_set() {
        source.get("secretRef").required("");
    }
}

fn glusterfs(source: Node<'_>) {
    source.get("endpoints").need();
    source.get("path").need();
}

fn rbd(source: Node<'_>) {
    source.get("monitors").need();
    source.get("image").need();
}

fn cinder(source: Node<'_>) {
    source.get("volumeID").need();
}

fn cephfs(source: Node<'_>) {
    source.get("monitors").need();
}

fn flocker(source: Node<'_>) {
    let name = source.get("datasetName");
    if name.is_empty() == source.get("datasetUUID").is_empty() {
        source.invalid("one and only one of datasetName and datasetUUID is required");
    }
    if name.str().contains('/') {
        name.invalid("must not contain '/'");
    }
}

fn fibre_channel(source: Node<'_>) {
    if source.get("targetWWNs").is_empty() && source.get("wwids").is_empty() {
        source.get("targetWWNs").required("must specify either targetWWNs or wwids");
    }
    if !source.get("targetWWNs").is_empty() && !source.get("lun").is_set() {
        source.get("lun").required("lun is required if targetWWNs is specified");
    }
    source.get("lun").within(0, 255);
}

fn azure_file(source: Node<'_>) {
    source.get("secretName").need();
    source.get("shareName").need();
}

fn vsphere(source: Node<'_>) {
    source.get("volumePath").need();
}

fn quobyte(source: Node<'_>) {
    source.get("registry").need();
    source.get("volume").need();
}

fn azure_disk(source: Node<'_>) {
    source.get("diskName").need();
    source.get("diskURI").need();
}

fn photon(source: Node<'_>) {
    source.get("pdID").need();
}

fn portworx(source: Node<'_>) {
    source.get("volumeID").need();
}

fn scale_io(source: Node<'_>) {
    for field in ["gateway", "system", "volumeName"] {
        source.get(field).need();
    }
}

fn claim(source: Node<'_>) {
    source.get("claimName").need();
}

fn downward_api(source: Node<'_>) {
    file_mode(source.get("defaultMode"));
    source.get("items").items().for_each(downward_file);
}

fn downward_file(file: Node<'_>) {
    let path = file.get("path");
    path.need();
    local_unreserved_path(path);
    let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
    if field.is_set() {
        downward::field_ref(field, &downward::VOLUME_FIELDS);
        if resource.is_set() {
            file.invalid_value("resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if resource.is_set() {
        downward::resource_field_ref(resource, true);
    } else {
        file.required("one of fieldRef and resourceFieldRef is required");
    }
    file_mode(file.get("mode"));
}

fn projected(source: Node<'_>) {
    file_mode(source.get("defaultMode"));
    let mut paths: Vec<&str> = Vec::new();
    for part in source.get("sources").items() {
        projection(source, part, &mut paths);
    }
}

fn projection<'a>(volume: Node<'a>, part: Node<'a>, paths: &mut Vec<&'a str>) {
    let mut count = 0;
    let mut take = |path: Node<'a>| {
        if !path.is_empty() && paths.contains(&path.str()) {
            volume.invalid_value(path.str(), "conflicting duplicate paths");
        } else {
            paths.push(path.str());
        }
    };
    for field in ["secret", "configMap"] {
        let from = part.get(field);
        if from.is_set() {
            count += 1;
            from.get("name").need();
            for item in from.get("items").items() {
                key_to_path(item);
                take(item.get("path"));
            }
        }
    }
    let downward = part.get("downwardAPI");
    if downward.is_set() {
        count += 1;
        for file in downward.get("items").items() {
            downward_file(file);
            take(file.get("path"));
        }
    }
    let token = part.get("serviceAccountToken");
    if token.is_set() {
        count += 1;
        service_account_token(token);
        take(token.get("path"));
    }
    let bundle = part.get("clusterTrustBundle");
    if bundle.is_set() {
        count += 1;
        cluster_trust_bundle(bundle);
        take(bundle.get("path"));
    }
    if part.get("podCertificate").is_set() {
        count += 1;
    }
    if count > 1 {
        part.forbidden("may not specify more than 1 volume type");
    }
}

fn service_account_token(token: Node<'_>) {
    let seconds = token.get("expirationSeconds");
    if seconds.int() < 600 {
        seconds.invalid("may not specify a duration less than 10 minutes");
    }
    if seconds.int() > 1 << 32 {
        seconds.invalid("may not specify a duration larger than 2^32 seconds");
    }
    if token.get("path").need() {
        local_unreserved_path(token.get("path"));
    }
}

fn cluster_trust_bundle(bundle: Node<'_>) {
    let (name, signer) = (bundle.get("name"), bundle.get("signerName"));
    if name.is_set() == signer.is_set() {
        bundle.invalid("exactly one of name and signerName must be given");
    }
    if bundle.get("path").need() {
        local_unreserved_path(bundle.get("path"));
    }
}

/// The name of a CSI driver.
pub fn csi_driver_name(name: Node<'_>) {
    if !name.need() {
        return;
    }
    if name.len() > 63 {
        name.too_long(63);
    }
    for message in names::dns1123_subdomain(&name.str().to_lowercase()) {
        name.invalid(message);
    }
}

fn csi(source: Node<'_>) {
    csi_driver_name(source.get("driver"));
    secret_reference_name(source.get("nodePublishSecretRef"));
}

fn secret_reference_name(reference: Node<'_>) {
    if reference.is_set() {
        reference.get("name").need();
    }
}

fn persistent_csi(source: Node<'_>) {
    csi_driver_name(source.get("driver"));
    source.get("volumeHandle").need();
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = source.get(field);
        if reference.is_set() {
            reference.get("name").need();
            reference.get("namespace").need();
        }
    }
}

fn local(source: Node<'_>) {
    if source.get("path").need() {
        no_backsteps(source.get("path"));
    }
}

fn ephemeral(source: Node<'_>) {
    let template = source.get("volumeClaimTemplate");
    if template.is_set() {
        crate::kinds::volume_claim::spec(template.get("spec"));
    } else {
        template.required("");
    }
}

fn image(source: Node<'_>) {
    source.get("reference").need();
    source.get("pullPolicy").one_of_if_set(&["Always", "IfNotPresent", "Never"]);
}
