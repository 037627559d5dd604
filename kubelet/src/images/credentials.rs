//! Credentials for image registries from a pod's pull secrets: docker's configuration files, and which of their entries an image
//! matches. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use proto::cri as api;
use serde::Deserialize;

const JSON_TYPE: &str = "kubernetes.io/dockerconfigjson";
const JSON_KEY: &str = ".dockerconfigjson";
const OLD_TYPE: &str = "kubernetes.io/dockercfg";
const OLD_KEY: &str = ".dockercfg";
/// Where images without a registry in their name come from.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// Why a pull secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the secret is of type {0:?}, which has no registry credentials")]
    Type(String),
    #[error("the secret has no key {0:?}")]
    Key(&'static str),
    #[error("the secret's content is not a docker configuration")]
    Content(#[from] serde_json::Error),
    #[error("the auth field of {0:?} is not base64 of user:password")]
    Auth(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// A location of images, which may have `*` in the parts of its host, and who may pull from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    location: String,
    pub auth: api::AuthConfig,
}

/// The credentials of one secret.
pub fn parse(secret: &Secret) -> Result<Vec<Credential>, Error> {
    let kind = secret.type_.as_deref().unwrap_or_default();
    let content = |key: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|data| data.0.as_slice()).ok_or(Error::Key(key))
    };
    let entries = match kind {
        JSON_TYPE => serde_json::from_slice::<File>(content(JSON_KEY)?)?.auths,
        OLD_TYPE => serde_json::from_slice(content(OLD_KEY)?)?,
        other => return Err(Error::Type(other.to_owned())),
    };
    entries.into_iter().map(|(location, entry)| credential(&location, entry)).collect()
}

fn credential(location: &str, entry: Entry) -> Result<Credential, Error> {
    let (mut username, mut password) = (entry.username, entry.password);
    if !entry.auth.is_empty() {
        let wrong = || Error::Auth(location.to_owned());
        let decoded = STANDARD.decode(entry.auth.trim()).map_err(|_| wrong())?;
        let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (user, secret) = decoded.split_once(':').ok_or_else(wrong)?;
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    let auth = api::AuthConfig { username, password, ..Default::default() };
    Ok(Credential { location: normalize(location), auth })
}

/// A location without scheme and API version: `https://index.docker.io/v1/` is `index.docker.io`.
fn normalize(location: &str) -> String {
    let rest = location.strip_prefix("https://").or_else(|| location.strip_prefix("http://")).unwrap_or(location);
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let path = ["v1/", "v2/"].iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path);
    let path = if matches!(path, "v1" | "v2") { "" } else { path.trim_end_matches('/') };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// The credentials that an image may be pulled with, those of the longest location first.
pub fn matching(image: &str, mut all: Vec<Credential>) -> Vec<api::AuthConfig> {
    let full = with_registry(image);
    all.retain(|credential| matches(&credential.location, &full));
    all.sort_by(|a, b| b.location.cmp(&a.location));
    let mut found: Vec<api::AuthConfig> = Vec::new();
    for credential in all {
        if !found.contains(&credential.auth) {
            found.push(credential.auth);
        }
    }
    found
}

/// The image's name with its registry.
fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some(("docker.io", rest)) => format!("{DEFAULT_REGISTRY}/{rest}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        _ => format!("{DEFAULT_REGISTRY}/{image}"),
    }
}

fn matches(location: &str, image: &str) -> bool {
    let split = |text: &str| match text.split_once('/') {
        Some((host, path)) => (host.to_owned(), path.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let ((pattern, path), (host, image)) = (split(location), split(image));
    let ((pattern, port), (host, actual_port)) = (with_port(&pattern), with_port(&host));
    let (pattern, host): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    port == actual_port
        && pattern.len() == host.len()
        && pattern.iter().zip(&host).all(|(pattern, part)| glob(pattern, part))
        && image.starts_with(&path)
}

fn with_port(host: &str) -> (&str, Option<&str>) {
    host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port)))
}

/// Whether a text is a pattern in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| glob(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(kind: &str, key: &str, content: &str) -> Secret {
        Secret {
            type_: Some(kind.into()),
            data: Some([(key.to_owned(), ByteString(content.as_bytes().to_vec()))].into()),
            ..Default::default()
        }
    }

    fn users(image: &str, content: &str) -> Vec<String> {
        let all = parse(&secret(JSON_TYPE, JSON_KEY, content)).unwrap();
        matching(image, all).into_iter().map(|auth| auth.username).collect()
    }

    #[test]
    fn both_forms_of_docker_configurations_are_read() {
        let auth = STANDARD.encode("u:p:q");
        let new =
            parse(&secret(JSON_TYPE, JSON_KEY, &format!(r#"{{"auths":{{"r.io":{{"auth":"{auth}"}}}}}}"#))).unwrap();
        let old = parse(&secret(OLD_TYPE, OLD_KEY, r#"{"r.io":{"username":"u","password":"p:q"}}"#)).unwrap();
        assert_eq!(new, old);
        assert!(matches!(parse(&secret("Opaque", JSON_KEY, "{}")), Err(Error::Type(_))));
        assert!(matches!(parse(&secret(JSON_TYPE, OLD_KEY, "{}")), Err(Error::Key(_))));
        assert!(matches!(parse(&secret(JSON_TYPE, JSON_KEY, "[")), Err(Error::Content(_))));
        let bad = r#"{"auths":{"r.io":{"auth":"?"}}}"#;
        assert!(matches!(parse(&secret(JSON_TYPE, JSON_KEY, bad)), Err(Error::Auth(_))));
    }

    #[test]
    fn an_image_gets_the_credentials_of_its_registry_and_path() {
        let config = r#"{"auths":{
            "https://index.docker.io/v1/": {"username": "hub"},
            "r.io": {"username": "r"},
            "r.io/team": {"username": "team"},
            "*.cloud.io": {"username": "cloud"},
            "local:5000": {"username": "port"}
        }}"#;
        for (image, expected) in [
            ("busybox", &["hub"][..]),
            ("library/busybox:1", &["hub"]),
            ("docker.io/library/busybox", &["hub"]),
            ("r.io/other/a", &["r"]),
            ("r.io/team/a:1", &["team", "r"]),
            ("eu.cloud.io/a", &["cloud"]),
            ("a.eu.cloud.io/a", &[]),
            ("local:5000/a", &["port"]),
            ("local:5001/a", &[]),
            ("x.io/a", &[]),
        ] {
            assert_eq!(users(image, config), expected, "{image}");
        }
    }
}
