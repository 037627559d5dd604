//! Config maps, secrets and service accounts.

use apimachinery::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::defaults::{object, set_empty};
use crate::node::Node;
use crate::strategy::{Kind, Looks};

/// What all data of one object may come to.
const DATA_MAX: usize = 1024 * 1024;

pub const CONFIG_MAP: Kind = Kind {
    group: "",
    resource: "configmaps",
    validate: config_map,
    transition: |root, old| immutable(root, old, &["data", "binaryData"]),
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

pub const SECRET: Kind = Kind {
    group: "",
    resource: "secrets",
    default: default_secret,
    validate: secret,
    transition: secret_update,
    fields: |secret| vec![("type", secret["type"].as_str().unwrap_or("").to_owned())],
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

pub const SERVICE_ACCOUNT: Kind = Kind { group: "", resource: "serviceaccounts", looks: Looks::AS_NEW, ..Kind::PLAIN };

/// The number of bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

fn config_map(root: Node<'_>) {
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut total = 0;
    for (key, value) in data.entries() {
        for message in names::config_map_key(key) {
            value.invalid_value(key, message);
        }
        if binary.value.get(key).is_some() {
            value.invalid_value(key, "duplicate of key present in binaryData");
        }
        total += value.len();
    }
    for (key, value) in binary.entries() {
        for message in names::config_map_key(key) {
            value.invalid_value(key, message);
        }
        total += decoded_len(value.str());
    }
    if total > DATA_MAX {
        root.entry("").too_long(DATA_MAX);
    }
}

fn immutable(root: Node<'_>, old: &Value, fields: &[&'static str]) {
    if old["immutable"] != true {
        return;
    }
    let flag = root.get("immutable");
    if !flag.bool() {
        flag.forbidden("field is immutable when `immutable` is set");
    }
    for field in fields {
        let node = root.get(field);
        let unchanged =
            node.value == &old[*field] || (node.is_empty() && old[*field].as_object().is_none_or(|o| o.is_empty()));
        if !unchanged {
            node.forbidden("field is immutable when `immutable` is set");
        }
    }
}

/// `stringData` is written over `data`, and is never kept.
fn default_secret(secret: &mut Value) {
    set_empty(secret, "type", "Opaque");
    let text = secret.as_object_mut().and_then(|s| s.remove("stringData"));
    let Some(Value::Object(text)) = text else { return };
    if text.is_empty() {
        return;
    }
    let data = object(secret, "data");
    for (key, value) in text {
        data[key] = STANDARD.encode(value.as_str().unwrap_or("")).into();
    }
}

fn secret(root: Node<'_>) {
    let data = root.get("data");
    let mut total = 0;
    for (key, value) in data.entries() {
        for message in names::config_map_key(key) {
            value.invalid_value(key, message);
        }
        total += decoded_len(value.str());
    }
    if total > DATA_MAX {
        data.too_long(DATA_MAX);
    }
    let has = |key: &str| data.value.get(key).is_some_and(|v| !v.is_null());
    let need = |key: &str| {
        if !has(key) {
            data.entry(key).required("");
        }
    };
    match root.get("type").str() {
        "kubernetes.io/service-account-token" => {
            let name = root.get("metadata").get("annotations").entry("kubernetes.io/service-account.name");
            name.need();
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            data.entry("username").required("");
            data.entry("password").required("");
        }
        "kubernetes.io/ssh-auth" => {
            data.entry("ssh-privatekey").need();
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

fn docker_config(data: Node<'_>, key: &str) {
    let entry = data.entry(key);
    if !entry.is_set() {
        entry.required("");
        return;
    }
    let bytes = STANDARD.decode(entry.str()).unwrap_or_default();
    let parsed: Result<serde_json::Map<String, Value>, _> = serde_json::from_slice(&bytes);
    if let Err(error) = parsed {
        entry.invalid_value("<secret contents redacted>", error.to_string());
    }
}

fn secret_update(root: Node<'_>, old: &Value) {
    root.get("type").immutable(&old["type"]);
    immutable(root, old, &["data"]);
}
