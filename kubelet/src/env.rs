//! The environment of a container: literal values with `$(VAR)` references, fields, resources, ConfigMaps, Secrets, and Services.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};

use crate::downward;
use crate::objects::{Objects, Unavailable};

/// Why an environment cannot be made; shown as CreateContainerConfigError.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { key: String, kind: &'static str, namespace: String, name: String },
    #[error("fileKeyRef of volume {0:?} is not supported yet")]
    File(String),
    #[error(transparent)]
    Object(#[from] Unavailable),
    #[error(transparent)]
    Field(#[from] downward::Error),
}

/// Replaces `$(NAME)` by its value; `$$` is a dollar sign, and what names nothing stays as it is.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        result.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => result.push_str(&value),
                None => result.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

/// The variables that describe Services, as Docker links once did. Pure.
pub fn of_services<'a>(services: impl IntoIterator<Item = &'a Service>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        let name = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
        let Some(first) = spec.ports.iter().flatten().next() else { continue };
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        variables.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        variables.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let port_name = port_name.to_uppercase().replace('-', "_");
                variables.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
            }
            if index == 0 {
                variables.insert(format!("{name}_PORT"), url.clone());
            }
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            variables.insert(prefix.clone(), url);
            variables.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            variables.insert(format!("{prefix}_PORT"), port.port.to_string());
            variables.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    variables
}

/// Makes the environment, in the order in which variables were named; a later name replaces an earlier one.
pub async fn build(
    pod: &Pod,
    container: &Container,
    facts: &downward::Facts<'_>,
    objects: &Objects,
) -> Result<Vec<(String, String)>, Error> {
    let namespace = crate::pod::namespace(pod);
    let links = crate::pod::spec(pod).enable_service_links.unwrap_or(true);
    let services = of_services(objects.services(namespace, links).iter().map(AsRef::as_ref));
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: String, value: String, values: &mut BTreeMap<String, String>| {
        if values.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let map = objects.config_map(pod, &reference.name, reference.optional.unwrap_or(false)).await?;
            for (key, value) in map.iter().flat_map(|map| map.data.iter().flatten()) {
                set(format!("{prefix}{key}"), value.clone(), &mut values);
            }
        }
        if let Some(reference) = &source.secret_ref {
            let secret = objects.secret(pod, &reference.name, reference.optional.unwrap_or(false)).await?;
            for (key, value) in secret.iter().flat_map(|secret| secret.data.iter().flatten()) {
                set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned(), &mut values);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => from_source(pod, container, source, facts, objects).await?,
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), |name| {
                values.get(name).or_else(|| services.get(name)).cloned()
            })),
        };
        if let Some(value) = value {
            set(variable.name.clone(), value, &mut values);
        }
    }
    for (name, value) in services {
        if !values.contains_key(&name) {
            set(name, value, &mut values);
        }
    }
    Ok(order
        .into_iter()
        .map(|name| {
            let value = values.remove(&name).unwrap_or_default();
            (name, value)
        })
        .collect())
}

async fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &downward::Facts<'_>,
    objects: &Objects,
) -> Result<Option<String>, Error> {
    let namespace = crate::pod::namespace(pod);
    if let Some(field) = &source.field_ref {
        return Ok(Some(downward::field(pod, &field.field_path, facts)?));
    }
    if let Some(field) = &source.resource_field_ref {
        let owner = field.container_name.as_deref().and_then(|name| crate::pod::container(pod, name));
        let of = owner.as_ref().map_or(container, |(_, owner)| owner.as_ref());
        return Ok(Some(downward::resource(of, &field.resource, field.divisor.as_ref(), facts)?));
    }
    let missing = |kind, name: &str, key: &str, optional: Option<bool>| {
        if optional.unwrap_or(false) {
            return Ok(None);
        }
        Err(Error::NoKey { key: key.into(), kind, namespace: namespace.into(), name: name.into() })
    };
    if let Some(key) = &source.config_map_key_ref {
        let map = objects.config_map(pod, &key.name, key.optional.unwrap_or(false)).await?;
        return match map.and_then(|map| map.data.as_ref()?.get(&key.key).cloned()) {
            Some(value) => Ok(Some(value)),
            None => missing("ConfigMap", &key.name, &key.key, key.optional),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = objects.secret(pod, &key.name, key.optional.unwrap_or(false)).await?;
        return match secret.and_then(|secret| secret.data.as_ref()?.get(&key.key).cloned()) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None => missing("Secret", &key.name, &key.key, key.optional),
        };
    }
    if let Some(key) = &source.file_key_ref {
        return Err(Error::File(key.volume_name.clone()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_documented() {
        let value = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$", "$"),
            ("$$", "$"),
            ("$(A)$", "1$"),
            ("$()", "$()"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }

    #[test]
    fn services_become_docker_link_variables() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.0.0.5", "ports": [{"name": "sql-x", "port": 5432}, {"name": "m", "port": 53, "protocol": "UDP"}]},
        }))
        .unwrap();
        let headless: Service = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}),
        )
        .unwrap();
        let variables = of_services([&service, &headless]);
        let expected = [
            ("MY_DB_PORT", "tcp://10.0.0.5:5432"),
            ("MY_DB_PORT_53_UDP", "udp://10.0.0.5:53"),
            ("MY_DB_PORT_53_UDP_ADDR", "10.0.0.5"),
            ("MY_DB_PORT_53_UDP_PORT", "53"),
            ("MY_DB_PORT_53_UDP_PROTO", "udp"),
            ("MY_DB_PORT_5432_TCP", "tcp://10.0.0.5:5432"),
            ("MY_DB_PORT_5432_TCP_ADDR", "10.0.0.5"),
            ("MY_DB_PORT_5432_TCP_PORT", "5432"),
            ("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
            ("MY_DB_SERVICE_HOST", "10.0.0.5"),
            ("MY_DB_SERVICE_PORT", "5432"),
            ("MY_DB_SERVICE_PORT_M", "53"),
            ("MY_DB_SERVICE_PORT_SQL_X", "5432"),
        ];
        let actual: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(actual, expected);
    }
}
