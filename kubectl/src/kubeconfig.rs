//! Kubeconfig files: where they are, how several become one, and what of it a command uses.

use std::path::{Path, PathBuf};

use apimachinery::codec::yaml;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::options::Globals;

/// The lists of a kubeconfig, with the key of their entries' content.
pub const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];
/// Fields that are paths, relative to the file they stand in.
const PATHS: [(&str, &[&str]); 2] =
    [("clusters", &["certificate-authority"]), ("users", &["client-certificate", "client-key", "tokenFile"])];
const DEFAULT_SERVER: &str = "http://localhost:8080";

/// The files that count, in order, and whether one was named by a flag.
#[derive(Debug, Clone)]
pub struct Files {
    pub explicit: bool,
    pub paths: Vec<PathBuf>,
}

impl Files {
    /// Those of the flags, else of the environment, else the one at home.
    pub fn of(globals: &Globals) -> Self {
        if let Some(path) = &globals.kubeconfig {
            return Self { explicit: true, paths: vec![path.clone()] };
        }
        let mut paths = Vec::new();
        if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
            for path in std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        } else {
            paths.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config")));
        }
        Self { explicit: false, paths }
    }

    /// Each file that exists with its content.
    ///
    /// # Errors
    /// A file that was named but is not there, and what is no kubeconfig.
    pub fn read(&self) -> Result<Vec<(PathBuf, Value)>> {
        let mut read = Vec::new();
        for path in &self.paths {
            if path.exists() {
                read.push((path.clone(), read_file(path)?));
            } else if self.explicit {
                return usage(format!("stat {}: no such file or directory", path.display()));
            }
        }
        Ok(read)
    }

    /// The file that takes what stands in none yet.
    pub fn default_file(&self) -> Option<&PathBuf> {
        self.paths.iter().find(|path| path.exists()).or(self.paths.last())
    }
}

/// One file's content; an empty file is an empty kubeconfig.
///
/// # Errors
/// What is no kubeconfig.
pub fn read_file(path: &Path) -> Result<Value> {
    let text = std::fs::read(path)?;
    let wrong = |why: String| Error::Usage(format!("error loading config file \"{}\": {why}", path.display()));
    match yaml::decode(&text).map_err(|error| wrong(error.to_string()))? {
        Value::Null => Ok(json!({})),
        Value::Object(fields) => Ok(Value::Object(fields)),
        _ => Err(wrong("it is not a map".to_owned())),
    }
}

/// All files as one: of each entry the first counts, and of each other field the first that is set.
pub fn merge(files: &[(PathBuf, Value)]) -> Value {
    let mut merged = json!({"apiVersion": "v1", "kind": "Config"});
    for (path, content) in files {
        let content = absolute(content, path.parent().unwrap_or(Path::new("")));
        for (list, _) in LISTS {
            let mut entries = merged.list(list).to_vec();
            for entry in content.list(list) {
                if find(&entries, entry.text("name")).is_none() {
                    entries.push(entry.clone());
                }
            }
            merged[list] = entries.into();
        }
        for (key, value) in content.as_object().into_iter().flatten() {
            let unset = !merged.has(key) || merged.text(key).is_empty() && merged.at(key).is_string();
            if unset && !LISTS.iter().any(|(list, _)| list == key) && !value.is_null() {
                merged[key.as_str()] = value.clone();
            }
        }
    }
    merged
}

/// The content with paths that no longer depend on where the file is.
fn absolute(content: &Value, dir: &Path) -> Value {
    let mut content = content.clone();
    for ((list, fields), (_, inner)) in PATHS.iter().zip(LISTS) {
        for entry in content.get_mut(*list).and_then(Value::as_array_mut).into_iter().flatten() {
            for field in *fields {
                let path = entry[inner].text(field);
                if !path.is_empty() && Path::new(path).is_relative() {
                    entry[inner][*field] = dir.join(path).display().to_string().into();
                }
            }
        }
    }
    content
}

/// The entry of a name.
pub fn find<'a>(entries: &'a [Value], name: &str) -> Option<&'a Value> {
    entries.iter().find(|entry| entry.text("name") == name)
}

/// What a command uses of a kubeconfig: one cluster, one user, and a namespace.
#[derive(Debug)]
pub struct Effective {
    pub cluster: Value,
    pub user: Value,
    /// Empty where the context names none.
    pub namespace: String,
    /// Whether no file and no flag names a server, so that a pod's own account may be meant.
    pub unset: bool,
}

/// What the flags and the current context choose.
///
/// # Errors
/// Names of contexts, clusters and users that are not there.
pub fn effective(config: &Value, globals: &Globals) -> Result<Effective> {
    let chosen = |flag: &Option<String>| flag.clone().filter(|name| !name.is_empty());
    let name = chosen(&globals.context).unwrap_or_else(|| config.text("current-context").to_owned());
    let context = match find(config.list("contexts"), &name) {
        Some(context) => context["context"].clone(),
        None if name.is_empty() => json!({}),
        None => {
            return Err(Error::Plain(format!(
                "Error in configuration: context was not found for specified context: {name}"
            )));
        }
    };
    let entry = |list: &str, inner: &str, flag: &Option<String>| {
        let name = chosen(flag).unwrap_or_else(|| context.text(inner).to_owned());
        (find(config.list(list), &name).map(|entry| entry[inner].clone()), flag.is_some(), name)
    };
    let mut cluster = match entry("clusters", "cluster", &globals.cluster) {
        (Some(cluster), _, _) => cluster,
        (None, true, name) => return usage(format!("no server found for cluster {name:?}")),
        (None, false, _) => json!({}),
    };
    let mut user = match entry("users", "user", &globals.user) {
        (Some(user), _, _) => user,
        (None, true, name) => return usage(format!("auth info {name:?} does not exist")),
        (None, false, _) => json!({}),
    };
    override_cluster(&mut cluster, globals);
    override_user(&mut user, globals);
    let unset = cluster.text("server").is_empty();
    if unset {
        cluster["server"] = DEFAULT_SERVER.into();
    }
    Ok(Effective { cluster, user, namespace: context.text("namespace").to_owned(), unset })
}

fn set(target: &mut Value, key: &str, value: &Option<String>) {
    if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
        target[key] = value.as_str().into();
    }
}

fn remove(target: &mut Value, keys: &[&str]) {
    if let Some(fields) = target.as_object_mut() {
        fields.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

fn override_cluster(cluster: &mut Value, globals: &Globals) {
    if globals.certificate_authority.is_some() {
        remove(cluster, &["certificate-authority-data"]);
    }
    if globals.insecure_skip_tls_verify {
        remove(cluster, &["certificate-authority", "certificate-authority-data"]);
        cluster["insecure-skip-tls-verify"] = true.into();
    }
    set(cluster, "server", &globals.server);
    set(cluster, "certificate-authority", &globals.certificate_authority);
    set(cluster, "tls-server-name", &globals.tls_server_name);
}

fn override_user(user: &mut Value, globals: &Globals) {
    if globals.token.is_some() {
        remove(user, &["token", "tokenFile", "username", "password", "exec", "auth-provider"]);
    }
    if globals.client_certificate.is_some() {
        remove(user, &["client-certificate-data"]);
    }
    if globals.client_key.is_some() {
        remove(user, &["client-key-data"]);
    }
    set(user, "token", &globals.token);
    set(user, "username", &globals.username);
    set(user, "password", &globals.password);
    set(user, "client-certificate", &globals.client_certificate);
    set(user, "client-key", &globals.client_key);
    set(user, "as", &globals.as_user);
    if !globals.as_group.is_empty() {
        user["as-groups"] = json!(globals.as_group);
    }
    set(user, "as-uid", &globals.as_uid);
}

/// The content in the form in which files are written: entries in order of their names, empty fields left out.
pub fn tidy(config: &Value) -> Value {
    let mut tidy = Map::new();
    tidy.insert("apiVersion".to_owned(), "v1".into());
    tidy.insert("kind".to_owned(), "Config".into());
    tidy.insert("current-context".to_owned(), config.text("current-context").into());
    for (key, value) in config.as_object().into_iter().flatten() {
        let kept = value.as_object().is_none_or(|fields| !fields.is_empty()) && !value.is_null();
        if kept && !LISTS.iter().any(|(list, _)| list == key) {
            tidy.insert(key.clone(), value.clone());
        }
    }
    for (list, inner) in LISTS {
        let mut entries: Vec<Value> = config.list(list).iter().map(|entry| tidy_entry(entry, inner)).collect();
        entries.sort_by(|a, b| a.text("name").cmp(b.text("name")));
        tidy.insert(list.to_owned(), if entries.is_empty() { Value::Null } else { entries.into() });
    }
    Value::Object(tidy)
}

fn tidy_entry(entry: &Value, inner: &str) -> Value {
    let mut content = entry[inner].as_object().cloned().unwrap_or_default();
    content
        .retain(|_, value| !value.is_null() && *value != Value::String(String::new()) && *value != Value::Bool(false));
    if inner == "cluster" {
        content.entry("server").or_insert_with(|| "".into());
    }
    if inner == "context" {
        for key in ["cluster", "user"] {
            content.entry(key).or_insert_with(|| "".into());
        }
    }
    json!({"name": entry.text("name"), inner: content})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({"current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "ca.crt"}}],
            "users": [{"name": "u", "user": {"token": "t"}}]})
    }

    #[test]
    fn the_first_file_wins_and_paths_are_of_their_file() {
        let second = json!({"current-context": "b", "clusters": [{"name": "c", "cluster": {"server": "https://y"}}, {"name": "d", "cluster": {}}]});
        let merged = merge(&[("/one/config".into(), config()), ("/two/config".into(), second)]);
        assert_eq!(merged["current-context"], "a");
        assert_eq!(
            merged["clusters"][0]["cluster"],
            json!({"server": "https://x", "certificate-authority": "/one/ca.crt"})
        );
        assert_eq!(merged["clusters"][1]["name"], "d");
    }

    #[test]
    fn flags_choose_and_override() {
        let of = |globals: Globals| effective(&config(), &globals);
        let plain = of(Globals::default()).unwrap();
        assert_eq!(
            (plain.cluster.text("server"), plain.user.text("token"), plain.namespace.as_str()),
            ("https://x", "t", "n")
        );
        let flags = Globals { server: Some("https://z".into()), token: Some("s".into()), ..Globals::default() };
        let other = of(flags).unwrap();
        assert_eq!((other.cluster.text("server"), other.user.text("token")), ("https://z", "s"));
        let wrong = |globals| of(globals).unwrap_err().report();
        let text = "Error in configuration: context was not found for specified context: x";
        assert_eq!(wrong(Globals { context: Some("x".into()), ..Globals::default() }), text);
        assert_eq!(
            wrong(Globals { cluster: Some("x".into()), ..Globals::default() }),
            "error: no server found for cluster \"x\""
        );
        assert_eq!(
            wrong(Globals { user: Some("x".into()), ..Globals::default() }),
            "error: auth info \"x\" does not exist"
        );
    }

    #[test]
    fn without_files_the_server_is_the_one_of_old() {
        let empty = effective(&json!({}), &Globals::default()).unwrap();
        assert!(empty.unset);
        assert_eq!(empty.cluster.text("server"), DEFAULT_SERVER);
    }
}
