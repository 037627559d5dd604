//! Warnings about pods and templates of pods.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{address, claim_spec, host_name, node_label, node_selector, node_term, whole_bytes};
use crate::node::Node;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const NO_POD: &str = "a null labelSelector results in matching no pod";

const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    ("security.alpha.kubernetes.io/sysctls", r#"non-functional in v1.11+; use the "sysctls" field instead"#),
    ("security.alpha.kubernetes.io/unsafe-sysctls", r#"non-functional in v1.11+; use the "sysctls" field instead"#),
];

const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A new pod.
pub fn pod(root: Node<'_>) {
    host_name(root, "the Pod's hostname");
    template(root);
}

/// A pod, or a template of pods.
pub fn template(root: Node<'_>) {
    let (spec, annotations) = (root.get("spec"), root.get("metadata").get("annotations"));
    nodes(spec);
    old_annotations(annotations);
    spec.get("volumes").items().for_each(volume);
    spec.get("volumes").items().for_each(overlapping_paths);
    repeated(spec.get("hostAliases"), "ip", "ip");
    repeated(spec.get("imagePullSecrets"), "name", "name");
    for secret in spec.get("imagePullSecrets").items().filter(|secret| secret.get("name").is_empty()) {
        secret.get("name").warn(r#"invalid empty name """#);
    }
    for resource in ["memory", "ephemeral-storage"] {
        whole_bytes(spec.get("overhead").entry(resource));
    }
    security_annotation(spec, annotations.entry(SECCOMP_POD));
    containers(spec).for_each(|container| self::container(container, annotations, spec));
    ports(spec);
    if spec.get("terminationGracePeriodSeconds").int() < 0 {
        spec.get("terminationGracePeriodSeconds")
            .warn("must be >= 0; negative values are invalid and will be treated as 1");
    }
    pod_affinity(spec.get("affinity"));
    spec.get("dnsConfig").get("nameservers").items().for_each(address);
    spec.get("hostAliases").items().for_each(|alias| address(alias.get("ip")));
}

fn containers(spec: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| spec.get(list).items())
}

fn nodes(spec: Node<'_>) {
    node_selector(spec.get("nodeSelector"));
    let affinity = spec.get("affinity").get("nodeAffinity");
    let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    required.get("nodeSelectorTerms").items().for_each(node_term);
    for preferred in affinity.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        node_term(preferred.get("preference"));
    }
    for constraint in spec.get("topologySpreadConstraints").items() {
        node_label(constraint.get("topologyKey"));
        selects(constraint.get("labelSelector"));
    }
}

fn selects(selector: Node<'_>) {
    if !selector.is_set() {
        selector.warn(NO_POD);
    }
}

fn pod_affinity(affinity: Node<'_>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        for term in affinity.get(kind).get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            selects(term.get("labelSelector"));
        }
        for term in affinity.get(kind).get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            selects(term.get("podAffinityTerm").get("labelSelector"));
        }
    }
}

fn old_annotations(annotations: Node<'_>) {
    for (key, message) in OLD_ANNOTATIONS {
        if annotations.entry(key).is_set() {
            annotations.entry(key).warn(message);
        }
    }
}

fn volume(volume: Node<'_>) {
    for (source, message) in OLD_VOLUMES {
        if volume.get(source).is_set() {
            volume.get(source).warn(message);
        }
    }
    claim_spec(volume.get("ephemeral").get("volumeClaimTemplate").get("spec"));
}

/// Items of a list that have the same key.
fn repeated(list: Node<'_>, key: &'static str, what: &str) {
    let mut seen = BTreeSet::new();
    for item in list.items().map(|item| item.get(key)) {
        if !seen.insert(item.str()) {
            item.warn(format!("duplicate {what} {:?}", item.str()));
        }
    }
}

/// An annotation that was replaced by the field of a security context.
fn security_annotation(owner: Node<'_>, annotation: Node<'_>) {
    if annotation.is_set() && !owner.get("securityContext").get("seccompProfile").is_set() {
        annotation.warn(r#"non-functional in v1.27+; use the "seccompProfile" field instead"#);
    }
}

fn container(container: Node<'_>, annotations: Node<'_>, spec: Node<'_>) {
    let name = container.get("name").str();
    security_annotation(container, annotations.entry(&format!("{SECCOMP_CONTAINER}{name}")));
    let app_armor = annotations.entry(&format!("{APP_ARMOR}{name}"));
    let has_field = |owner: Node<'_>| owner.get("securityContext").get("appArmorProfile").is_set();
    if app_armor.is_set() && !has_field(spec) && !has_field(container) {
        app_armor.warn(r#"deprecated since v1.30; use the "appArmorProfile" field instead"#);
    }
    for part in ["limits", "requests"] {
        for resource in ["memory", "ephemeral-storage"] {
            whole_bytes(container.get("resources").get(part).entry(resource));
        }
    }
    environment(container.get("env"));
}

/// Variables that hide one of the same name without building on it.
fn environment(list: Node<'_>) {
    let mut seen = BTreeSet::new();
    for variable in list.items() {
        let (name, value) = (variable.get("name").str(), variable.get("value").str());
        let reference = format!("$({name})");
        let builds_on = value.contains(&reference) && value != reference && !variable.get("valueFrom").is_set();
        if !seen.insert(name) && !builds_on {
            variable.warn(format!("hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

fn ports(spec: Node<'_>) {
    let mut all: BTreeMap<(i64, &str), Vec<Node<'_>>> = BTreeMap::new();
    for port in containers(spec).flat_map(|container| container.get("ports").items()) {
        let (ip, host) = (port.get("hostIP").str(), port.get("hostPort").int());
        let (number, protocol) = (port.get("containerPort").int(), port.get("protocol").str());
        if !ip.is_empty() && host == 0 {
            let name = port.get("name").str();
            port.warn(format!(
                "hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}"
            ));
        }
        let others = all.entry((number, protocol)).or_default();
        for other in &*others {
            let (other_ip, other_host) = (other.get("hostIP").str(), other.get("hostPort").int());
            let how = if ip == other_ip && host == other_host {
                "duplicate"
            } else if host == 0 || other_host == 0 {
                "overlapping"
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            port.warn(format!("{how} port definition with {}", other.path()));
        }
        others.push(port);
    }
}

/// Files of a volume of which one lies in the way of another.
fn overlapping_paths(volume: Node<'_>) {
    let name = volume.get("name").str();
    for (field, kind, reference) in
        [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "DownwardAPI", "")]
    {
        let source = volume.get(field);
        let what = of(kind, source.value, reference);
        report(volume, &paths(source.value), &format!("volume {name:?} ({what}): overlapping paths"));
    }
    let mut all: Vec<&str> = Vec::new();
    for source in volume.get("projected").get("sources").items() {
        if source.is_empty() {
            volume.remark(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        let Some((what, paths)) = projected(source.value) else { continue };
        let message = format!("volume {name:?} (Projected {what}): overlapping paths");
        report(volume, &paths, &message);
        let mut both: Vec<&str> =
            paths.iter().copied().collect::<BTreeSet<_>>().into_iter().chain(all.clone()).collect();
        both.sort_unstable();
        report(volume, &both, &message);
        all.extend(paths);
        all.sort_unstable();
        all.dedup();
    }
}

/// A source with its name, as `ConfigMap "a"`.
fn of(kind: &str, source: &Value, reference: &str) -> String {
    if reference.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} {:?}", source[reference].as_str().unwrap_or(""))
    }
}

fn projected(source: &Value) -> Option<(String, Vec<&str>)> {
    for (field, kind, reference) in
        [("configMap", "ConfigMap", "name"), ("secret", "Secret", "name"), ("downwardAPI", "DownwardAPI", "")]
    {
        if source[field]["items"].is_array() {
            return Some((of(kind, &source[field], reference), paths(&source[field])));
        }
    }
    for (field, kind) in [("serviceAccountToken", "ServiceAccountToken"), ("clusterTrustBundle", "ClusterTrustBundle")]
    {
        if let Some(path) = source[field]["path"].as_str() {
            let reference = ["name", "signerName"].into_iter().find(|name| source[field][*name].is_string());
            return Some((of(kind, &source[field], reference.unwrap_or("")), vec![path]));
        }
    }
    None
}

fn paths(source: &Value) -> Vec<&str> {
    source["items"].as_array().into_iter().flatten().filter_map(|item| item["path"].as_str()).collect()
}

fn report(volume: Node<'_>, paths: &[&str], message: &str) {
    let mut seen: Vec<&str> = Vec::new();
    for path in paths.iter().map(|path| path.trim_end_matches('/')) {
        let within = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        let collides = |other: &&&str| **other == path || within(path, other) || within(other, path);
        if let Some(other) = seen.iter().find(collides) {
            volume.remark(format!("{message}: {path:?} with {other:?}"));
        }
        seen.push(path);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::Context;

    fn said(spec: &Value, annotations: &Value) -> Vec<String> {
        let pod = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": spec});
        let context = Context::default();
        super::pod(context.root(&pod));
        context.into_warnings()
    }

    #[test]
    fn nothing_is_said_of_a_plain_pod() {
        let spec = json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]}]});
        assert_eq!(said(&spec, &json!({})), Vec::<String>::new());
    }

    #[test]
    fn what_is_old_is_named_with_what_replaces_it() {
        let spec = json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "Exists"}]}]}}},
            "volumes": [{"name": "v", "gitRepo": {"repository": "r"}}],
            "containers": [{"name": "c", "image": "i"}],
        });
        let annotations = json!({
            "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
            "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
            "scheduler.alpha.kubernetes.io/critical-pod": "",
        });
        assert_eq!(
            said(&spec, &annotations),
            [
                r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
                r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead"#,
                r#"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead"#,
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                r#"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
                r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead"#,
            ]
        );
    }

    #[test]
    fn what_hides_something_else_is_named() {
        let spec = json!({
            "imagePullSecrets": [{"name": "s"}, {"name": "s"}, {}],
            "hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}],
            "containers": [
                {"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                 "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}]},
                {"name": "d", "resources": {"limits": {"memory": "1m"}},
                 "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP", "hostPort": 8080}]},
            ],
            "topologySpreadConstraints": [{"topologyKey": "zone"}],
            "terminationGracePeriodSeconds": -1,
        });
        assert_eq!(
            said(&spec, &json!({})),
            [
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                r#"spec.hostAliases[1].ip: duplicate ip "1.1.1.1""#,
                r#"spec.imagePullSecrets[1].name: duplicate name "s""#,
                r#"spec.imagePullSecrets[2].name: invalid empty name """#,
                r#"spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#,
                r#"spec.containers[1].resources.limits[memory]: fractional byte value "1m" is invalid, must be an integer"#,
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[1].ports[0]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ]
        );
    }

    #[test]
    fn files_in_each_others_way_are_named() {
        let items = |paths: [&str; 2]| json!(paths.map(|path| json!({"key": "k", "path": path})));
        let spec = json!({"volumes": [
            {"name": "v", "configMap": {"name": "m", "items": items(["a", "a/b"])}},
            {"name": "w", "secret": {"secretName": "s", "items": items(["a", "ab"])}},
            {"name": "p", "projected": {"sources": [
                {"serviceAccountToken": {"path": "x"}}, {"configMap": {"name": "m", "items": items(["x", "y"])}}, {}]}},
        ]});
        assert_eq!(
            said(&spec, &json!({})),
            [
                r#"volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a""#,
                r#"volume "p" (Projected ConfigMap "m"): overlapping paths: "x" with "x""#,
                r#"volume "p" (Projected) has no sources provided"#,
            ]
        );
    }
}
