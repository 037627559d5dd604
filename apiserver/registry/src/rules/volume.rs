//! Volumes: exactly one source each, and the rules of each source.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::{downward, labels, meta, resources};

type SourceRule = fn(Node<'_>);

/// Sources of a pod's volume, in the order in which they are looked at: a second one is reported.
const OF_POD: [(&str, SourceRule); 30] = [
    ("emptyDir", empty_dir),
    ("hostPath", host_path),
    ("gitRepo", git_repo),
    ("gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", aws_disk),
    ("secret", secret),
    ("nfs", nfs),
    ("iscsi", iscsi),
    ("glusterfs", glusterfs),
    ("persistentVolumeClaim", claim),
    ("rbd", rbd),
    ("cinder", cinder),
    ("cephfs", cephfs),
    ("flocker", flocker),
    ("downwardAPI", downward_api),
    ("fc", fibre_channel),
    ("flexVolume", flex),
    ("configMap", config_map),
    ("azureFile", azure_file),
    ("vsphereVolume", vsphere),
    ("portworxVolume", portworx),
    ("azureDisk", azure_disk),
    ("storageos", storage_os),
    ("quobyte", quobyte),
    ("photonPersistentDisk", photon),
    ("projected", projected),
    ("scaleIO", scale_io),
    ("csi", csi),
    ("ephemeral", ephemeral),
    ("image", image),
];
/// Sources of a persistent volume, in that order too.
const PERSISTENT: [(&str, SourceRule); 22] = [
    ("hostPath", host_path),
    ("gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", aws_disk),
    ("glusterfs", persistent_glusterfs),
    ("flocker", flocker),
    ("nfs", nfs),
    ("rbd", rbd),
    ("quobyte", quobyte),
    ("cephfs", cephfs),
    ("iscsi", iscsi),
    ("cinder", cinder),
    ("fc", fibre_channel),
    ("flexVolume", flex),
    ("azureFile", persistent_azure_file),
    ("vsphereVolume", vsphere),
    ("photonPersistentDisk", photon),
    ("portworxVolume", portworx),
    ("azureDisk", azure_disk),
    ("scaleIO", scale_io),
    ("local", local),
    ("storageos", storage_os),
    ("csi", persistent_csi),
];

/// `volumes` of a pod, or of a template where `pod` is none; otherwise it is the pod's metadata. Returns the names of the good
/// ones.
pub fn volumes<'a>(list: Node<'a>, pod: Option<Node<'a>>) -> Vec<(&'a str, &'a Value)> {
    let mut good: Vec<(&str, &Value)> = Vec::new();
    for volume in list.items() {
        let before = volume.errors_so_far();
        source(volume, &OF_POD);
        let name = volume.get("name");
        if let Some(pod) = pod {
            of_pod_only(volume, pod.get("name").str());
        }
        if name.is_empty() {
            name.required("");
        } else {
            name.check(names::dns1123_label);
        }
        if good.iter().any(|(other, _)| *other == name.str()) {
            name.duplicate();
        }
        if volume.errors_so_far() == before {
            good.push((name.str(), volume.value));
        }
    }
    good
}

/// What holds for volumes of pods, and not yet of their templates.
fn of_pod_only(volume: Node<'_>, pod: &str) {
    let (image, ephemeral, name) = (volume.get("image"), volume.get("ephemeral"), volume.get("name"));
    if image.is_set() {
        image.get("reference").need();
    }
    // The claim is called after the pod and the volume.
    if ephemeral.is_set() && !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{}", name.str());
        for message in names::dns1123_subdomain(&claim) {
            name.invalid(format!("PVC name {claim:?}: {message}"));
        }
    }
}

/// Exactly one source, which keeps its rules.
fn source(volume: Node<'_>, known: &[(&'static str, SourceRule)]) {
    let mut found = 0;
    for (field, rule) in known {
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
    if found == 0 {
        volume.required("must specify a volume type");
    }
}

/// The source of a persistent volume.
pub fn persistent_source(spec: Node<'_>) {
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
    if node.str().starts_with("..") && !node.str().starts_with("../") {
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
    let (iqn, initiator) = (source.get("iqn"), source.get("initiatorName"));
    if iqn.need() {
        iscsi_name(iqn);
    }
    source.get("lun").within(0, 255);
    let chap = source.get("chapAuthDiscovery").bool() || source.get("chapAuthSession").bool();
    if chap && !source.get("secretRef").is_set() {
        source.get("secretRef").required("");
    }
    secret_reference_name(source.get("secretRef"));
    if initiator.is_set() {
        iscsi_name(initiator);
    }
}

/// A name of RFC 3720: `iqn.2001-04.com.example:storage`, `eui.` and 16 characters, `naa.` and 32.
fn iscsi_name(name: Node<'_>) {
    let alphanumeric =
        |text: &str, length: usize| text.len() == length + 1 && text.chars().skip(1).all(|c| c.is_ascii_alphanumeric());
    let text = name.str();
    let fits = match text.get(..3) {
        Some("iqn") => qualified_iscsi_name(&text[3..]),
        Some("eui") => alphanumeric(&text[3..], 16),
        Some("naa") => alphanumeric(&text[3..], 32),
        _ => {
            name.invalid("must be valid format starting with iqn, eui, or naa");
            return;
        }
    };
    if !fits {
        name.invalid("must be valid format");
    }
}

/// `.yyyy-mm.`, a domain, and what its owner calls it behind a colon.
fn qualified_iscsi_name(rest: &str) -> bool {
    let mut parts = rest.splitn(3, '.');
    let (empty, date, name) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let dated = date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
    let (domain, own) = name.split_once(':').unwrap_or((name, ""));
    let in_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let in_own = |c: char| !c.is_whitespace() && !",;*&$|".contains(c);
    empty == Some("")
        && dated
        && !domain.is_empty()
        && domain.chars().all(in_domain)
        && !own.is_empty()
        && own.chars().all(in_own)
}

fn glusterfs(source: Node<'_>) {
    source.get("endpoints").need();
    source.get("path").need();
}

fn rbd(source: Node<'_>) {
    source.get("monitors").need();
    source.get("image").need();
}

fn persistent_glusterfs(source: Node<'_>) {
    glusterfs(source);
    let namespace = source.get("endpointsNamespace");
    if namespace.is_set() && namespace.is_empty() {
        namespace.invalid("if the endpointnamespace is set, it must be a valid namespace name");
    }
}

fn cinder(source: Node<'_>) {
    source.get("volumeID").need();
    secret_reference_name(source.get("secretRef"));
}

fn cephfs(source: Node<'_>) {
    source.get("monitors").need();
}

fn flocker(source: Node<'_>) {
    let (name, uid) = (source.get("datasetName"), source.get("datasetUUID"));
    if name.is_empty() && uid.is_empty() {
        source.required("one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uid.is_empty() {
        source.invalid_value("resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.str().contains('/') {
        name.invalid("must not contain '/'");
    }
}

fn fibre_channel(source: Node<'_>) {
    let (targets, ids, lun) = (source.get("targetWWNs"), source.get("wwids"), source.get("lun"));
    if targets.is_empty() && ids.is_empty() {
        targets.required("must specify either targetWWNs or wwids, but not both");
    }
    if targets.is_empty() {
        return;
    }
    if !ids.is_empty() {
        targets.invalid("targetWWNs and wwids can not be specified simultaneously");
    }
    if lun.is_set() {
        lun.within(0, 255);
    } else {
        lun.required("lun is required if targetWWNs is specified");
    }
}

/// A driver's own options may not look like Kubernetes'.
fn flex(source: Node<'_>) {
    source.get("driver").need();
    let options = source.get("options");
    for (key, option) in options.entries() {
        let domain = key.split('/').next().unwrap_or("").to_lowercase();
        let domain = domain.strip_suffix('.').unwrap_or(&domain);
        if ["kubernetes.io", "k8s.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
            option.invalid_value(key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_file(source: Node<'_>) {
    source.get("secretName").need();
    source.get("shareName").need();
}

fn persistent_azure_file(source: Node<'_>) {
    azure_file(source);
    let namespace = source.get("secretNamespace");
    if namespace.is_set() && namespace.is_empty() {
        namespace.required("");
    }
}

fn vsphere(source: Node<'_>) {
    source.get("volumePath").need();
}

fn quobyte(source: Node<'_>) {
    let (registry, tenant) = (source.get("registry"), source.get("tenant"));
    if registry.is_empty() {
        registry.required("must be a host:port pair or multiple pairs separated by commas");
    } else if registry.str().split(',').any(|pair| !pair.contains(':')) {
        registry.invalid("must be a host:port pair or multiple pairs separated by commas");
    }
    if tenant.len() >= 65 {
        tenant.required("must be a UUID and may not exceed a length of 64 characters");
    }
    source.get("volume").need();
}

fn azure_disk(source: Node<'_>) {
    let (name, uri, caching, kind) =
        (source.get("diskName"), source.get("diskURI"), source.get("cachingMode"), source.get("kind"));
    name.need();
    uri.need();
    caching.one_of_if_set(&["None", "ReadOnly", "ReadWrite"]);
    kind.one_of_if_set(&["Dedicated", "Managed", "Shared"]);
    // Managed disks are resources of Azure, the others files.
    let form = if kind.str() == "Managed" { "/subscriptions/" } else { "https://" };
    if kind.is_set() && !uri.str().starts_with(form) {
        uri.not_supported(&[form]);
    }
}

fn storage_os(source: Node<'_>) {
    let (name, namespace, secret) = (source.get("volumeName"), source.get("volumeNamespace"), source.get("secretRef"));
    name.need_check(names::dns1123_label);
    namespace.check_if_set(names::dns1123_label);
    secret_reference_name(secret);
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
    let (name, signer, selector) = (bundle.get("name"), bundle.get("signerName"), bundle.get("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => bundle.invalid("only one of name and signerName may be used"),
        (false, false) => bundle.required("either name or signerName must be specified"),
        (true, false) => {
            name.need_check(names::path_segment);
            if selector.is_set() {
                selector.invalid("labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            signer.need();
            labels::selector(selector);
        }
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
    let secret = source.get("nodePublishSecretRef");
    if secret.is_set() {
        secret.get("name").need_check(names::dns1123_subdomain);
    }
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
    if !template.is_set() {
        template.required("");
        return;
    }
    let metadata = template.get("metadata");
    meta::labels(metadata.get("labels"));
    meta::annotations(metadata.get("annotations"));
    for field in ["name", "generateName", "namespace", "finalizers", "ownerReferences"] {
        if !metadata.get(field).is_empty() {
            metadata.get(field).forbidden("cannot be set for an ephemeral volume");
        }
    }
    crate::kinds::volume_claim::spec(template.get("spec"));
}

fn image(source: Node<'_>) {
    source.get("pullPolicy").need_one_of(&["Always", "IfNotPresent", "Never"]);
}
