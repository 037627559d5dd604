//! The downward API: fields of the pod and resources of its containers as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::qos;
use crate::quantity;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
}

/// What the pod's object does not say.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub pod_ips: &'a [String],
    pub node_name: &'a str,
    pub host_ips: &'a [String],
    /// Stands for limits that are not set.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// `metadata.labels['key']` as (`metadata.labels`, `key`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// As Go's `%q`.
fn quoted(text: &str) -> String {
    let mut result = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\t' => result.push_str("\\t"),
            '\r' => result.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => result.push_str(&format!("\\x{:02x}", c as u32)),
            c => result.push(c),
        }
    }
    result.push('"');
    result
}

/// The text of a field.
pub fn field(pod: &Pod, path: &str, facts: &Facts<'_>) -> Result<String, Error> {
    let meta = &pod.metadata;
    if let Some((base, key)) = subscript(path) {
        let map = match base {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(Error::Path(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key).cloned()).unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => crate::pod::name(pod).to_owned(),
        "metadata.namespace" => crate::pod::namespace(pod).to_owned(),
        "metadata.uid" => crate::pod::uid(pod).to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.to_owned(),
        "spec.serviceAccountName" => crate::pod::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        _ => return Err(Error::Path(path.to_owned())),
    })
}

/// The text of a container's resource, in units of the divisor, rounded up.
pub fn resource(
    container: &Container,
    name: &str,
    divisor: Option<&Quantity>,
    facts: &Facts<'_>,
) -> Result<String, Error> {
    let (kind, resource) = name.split_once('.').ok_or_else(|| Error::Resource(name.to_owned()))?;
    let found = match kind {
        "limits" => qos::limit(container, resource).or_else(|| facts.allocatable.get(resource)),
        "requests" => qos::request(container, resource),
        _ => return Err(Error::Resource(name.to_owned())),
    };
    let millis = |quantity: &Quantity| quantity::parse(&quantity.0).map_or(0.0, |q| q.as_f64() * 1000.0);
    let divisor = divisor.map_or(1000.0, millis);
    let divisor = if divisor == 0.0 { 1000.0 } else { divisor };
    let value = found.map_or(0.0, millis);
    Ok(format!("{}", (value / divisor).ceil() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_resources_are_written_as_documented() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b\"c", "d": "e"}},
            "spec": {"serviceAccountName": "s", "containers": [
                {"name": "c", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]},
        }))
        .unwrap();
        let ips = ["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity("2".into()))]);
        let facts = Facts { pod_ips: &ips, node_name: "node", host_ips: &ips[..1], allocatable: &allocatable };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels['d']", "e"),
            ("metadata.labels['x']", ""),
            ("metadata.labels", "a=\"b\\\"c\"\nd=\"e\""),
            ("spec.nodeName", "node"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
        ] {
            assert_eq!(field(&pod, path, &facts).unwrap(), expected);
        }
        assert!(field(&pod, "spec.x", &facts).is_err());
        let container = &crate::pod::spec(&pod).containers[0];
        for (name, divisor, expected) in [
            ("limits.memory", "1Mi", "64"),
            ("limits.memory", "0", "67108864"),
            ("requests.cpu", "1m", "250"),
            ("requests.cpu", "1", "1"),
            ("limits.cpu", "1", "2"),
            ("requests.memory", "1", "67108864"),
        ] {
            let divisor = Quantity(divisor.into());
            assert_eq!(resource(container, name, Some(&divisor), &facts).unwrap(), expected, "{name}");
        }
    }
}
