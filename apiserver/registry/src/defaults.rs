//! Setting fields that were left out, and the defaults of pod specs.

use serde_json::{Map, Value, json};

/// Sets a field that is absent or null.
pub fn set(obj: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = obj.as_object_mut()
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// Sets a field that is absent, null, an empty string or zero.
pub fn set_empty(obj: &mut Value, field: &str, value: impl Into<Value>) {
    let zero = match obj.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        _ => false,
    };
    if let (true, Some(map)) = (zero, obj.as_object_mut()) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Removes fields that say what their absence says. Kubernetes leaves them out.
pub fn omit_zero(obj: &mut Value, fields: &[&str]) {
    let Some(map) = obj.as_object_mut() else { return };
    for field in fields {
        if matches!(map.get(*field), Some(Value::Bool(false))) || map.get(*field).and_then(Value::as_i64) == Some(0) {
            map.remove(*field);
        }
    }
}

/// A field that is an object, made when it is absent.
pub fn object<'a>(obj: &'a mut Value, field: &str) -> &'a mut Value {
    if !obj.is_object() {
        *obj = Value::Object(Map::new());
    }
    if obj.get(field).is_none_or(Value::is_null) {
        obj[field] = json!({});
    }
    &mut obj[field]
}

/// The object at a path, where there is one.
pub fn at<'a>(obj: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    let mut here = obj;
    for field in path {
        here = here.get_mut(*field)?;
    }
    here.is_object().then_some(here)
}

/// Runs over the items of a list field.
pub fn each(obj: &mut Value, field: &str, mut f: impl FnMut(&mut Value)) {
    if let Some(list) = obj.get_mut(field).and_then(Value::as_array_mut) {
        list.iter_mut().filter(|v| v.is_object()).for_each(&mut f);
    }
}

/// The defaults of a pod template, at `obj.template`.
pub fn pod_template(owner: &mut Value) {
    let template = object(owner, "template");
    pod_spec(object(template, "spec"));
}

/// The defaults of a pod spec.
pub fn pod_spec(spec: &mut Value) {
    set_empty(spec, "dnsPolicy", "ClusterFirst");
    set_empty(spec, "restartPolicy", "Always");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    set_empty(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    omit_zero(spec, &["hostNetwork", "hostPID", "hostIPC"]);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
    resource_list(spec.get_mut("overhead"));
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are kept the same.
fn service_account(spec: &mut Value) {
    let name = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|f| spec[*f].as_str().filter(|s| !s.is_empty()))
        .map(str::to_owned);
    if let Some(name) = name {
        spec["serviceAccountName"] = Value::from(name.clone());
        spec["serviceAccount"] = Value::from(name);
    }
}

/// In the host's network a container's ports are the host's. Only pods say so, not their templates.
pub fn host_ports(spec: &mut Value) {
    if spec["hostNetwork"].as_bool() != Some(true) {
        return;
    }
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            each(container, "ports", |port| {
                let number = port["containerPort"].clone();
                if !number.is_null() {
                    set_empty(port, "hostPort", number);
                }
            });
        });
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(container["image"].as_str().unwrap_or(""));
    set_empty(container, "imagePullPolicy", policy);
    set_empty(container, "terminationMessagePath", "/dev/termination-log");
    set_empty(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    each(container, "ports", |port| set_empty(port, "protocol", "TCP"));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = at(container, &[probe]) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(http) = at(container, &["lifecycle", hook, "httpGet"]) {
            http_get(http);
        }
    }
    each(container, "env", |variable| {
        if let Some(field) = at(variable, &["valueFrom", "fieldRef"]) {
            set_empty(field, "apiVersion", "v1");
        }
        if let Some(resource) = at(variable, &["valueFrom", "resourceFieldRef"]) {
            set(resource, "divisor", "0");
        }
        if let Some(file) = at(variable, &["valueFrom", "fileKeyRef"]) {
            set(file, "optional", false);
        }
    });
    omit_zero(container, &["stdin", "stdinOnce", "tty"]);
    each(container, "volumeMounts", |mount| omit_zero(mount, &["readOnly"]));
    resource_list(container.get_mut("resources").and_then(|r| r.get_mut("limits")));
    resource_list(container.get_mut("resources").and_then(|r| r.get_mut("requests")));
}

fn resource_list(list: Option<&mut Value>) {
    // Amounts finer than a thousandth are rounded up.
    let entries = list.and_then(Value::as_object_mut).into_iter().flatten();
    for (_, amount) in entries {
        if let Some(rounded) = crate::rules::resources::rounded_to_milli(amount) {
            *amount = Value::from(rounded);
        }
    }
}

/// An image without a tag, or with `latest`, is pulled always.
pub fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    if !is_reference(name) {
        return "IfNotPresent";
    }
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

/// Whether a name without its digest can be that of an image: the registry's host, then a path in lower case.
fn is_reference(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => name,
    };
    let repository = path.split_once(':').map_or(path, |(repository, _)| repository);
    let part = |p: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        end(p.chars().next()) && end(p.chars().last()) && p.chars().all(inside)
    };
    repository.split('/').all(part)
}

fn probe(probe: &mut Value) {
    set_empty(probe, "timeoutSeconds", 1);
    set_empty(probe, "periodSeconds", 10);
    set_empty(probe, "successThreshold", 1);
    set_empty(probe, "failureThreshold", 3);
    if let Some(http) = at(probe, &["httpGet"]) {
        http_get(http);
    }
    if let Some(grpc) = at(probe, &["grpc"]) {
        set(grpc, "service", "");
    }
}

fn http_get(http: &mut Value) {
    set_empty(http, "path", "/");
    set_empty(http, "scheme", "HTTP");
}

const DEFAULT_MODE: i64 = 0o644;

fn has_source(volume: &Value) -> bool {
    volume.as_object().is_some_and(|m| m.iter().any(|(k, v)| k != "name" && !v.is_null()))
}

fn volume(volume: &mut Value) {
    if !has_source(volume) {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = at(volume, &[source]) {
            set(source, "defaultMode", DEFAULT_MODE);
        }
    }
    if let Some(downward) = at(volume, &["downwardAPI"]) {
        each(downward, "items", downward_file);
    }
    if let Some(projected) = at(volume, &["projected"]) {
        each(projected, "sources", projection);
    }
    if let Some(claim) = at(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        set(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = at(volume, &["image"]) {
        let policy = pull_policy(image["reference"].as_str().unwrap_or(""));
        set_empty(image, "pullPolicy", policy);
    }
    volume_source(volume);
}

/// Defaults of the sources that persistent volumes have too.
pub fn volume_source(volume: &mut Value) {
    if let Some(host) = at(volume, &["hostPath"]) {
        set(host, "type", "");
    }
    if let Some(iscsi) = at(volume, &["iscsi"]) {
        set_empty(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = at(volume, &["rbd"]) {
        set_empty(rbd, "pool", "rbd");
        set_empty(rbd, "user", "admin");
        set_empty(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = at(volume, &["azureDisk"]) {
        set(disk, "cachingMode", "ReadWrite");
        set(disk, "kind", "Shared");
        set(disk, "fsType", "ext4");
        set(disk, "readOnly", false);
    }
    if let Some(scale) = at(volume, &["scaleIO"]) {
        set_empty(scale, "storageMode", "ThinProvisioned");
        set_empty(scale, "fsType", "xfs");
    }
}

fn downward_file(file: &mut Value) {
    if let Some(field) = at(file, &["fieldRef"]) {
        set_empty(field, "apiVersion", "v1");
    }
    if let Some(resource) = at(file, &["resourceFieldRef"]) {
        set(resource, "divisor", "0");
    }
}

fn projection(source: &mut Value) {
    if let Some(token) = at(source, &["serviceAccountToken"]) {
        set(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = at(source, &["downwardAPI"]) {
        each(downward, "items", downward_file);
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn images_without_a_fixed_tag_are_pulled_always() {
        for image in ["a", "a:latest", "registry.example:5000/a/b", "docker.io/library/a:latest"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["a:1", "registry.example:5000/a:v1", "a@sha256:0", "Bad_Value!", "-1"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
