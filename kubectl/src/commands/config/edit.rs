//! Changes of kubeconfig files: each entry is changed in the file that it stands in.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Command, only};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::flags::truth;
use crate::kubeconfig::{self, Files};
use crate::options::Globals;
use crate::printers::tree;
use crate::streams::Streams;

/// Fields whose files can be kept as data.
const EMBEDDABLE: [&str; 3] = ["certificate-authority", "client-certificate", "client-key"];

pub(super) fn run(command: &Command, files: &Files, globals: &Globals, streams: &mut Streams) -> Result<()> {
    let said = match command {
        Command::DeleteCluster { names } => delete("clusters", "cluster", names, files)?,
        Command::DeleteContext { names } => {
            let active = super::read(files)?.text("current-context").to_owned();
            let said = delete("contexts", "context", names, files)?;
            if names.contains(&active) {
                writeln!(
                    streams.err,
                    "warning: this removed your active context, use \"kubectl config use-context\" to select a different one"
                )?;
            }
            said
        }
        Command::DeleteUser { names } => delete("users", "user", names, files)?,
        Command::RenameContext { names } => rename(names, files)?,
        Command::UseContext { names } => use_context(names, files)?,
        Command::SetCluster { names, embed_certs, proxy_url } => {
            set_cluster(names, *embed_certs, proxy_url.as_deref(), files, globals)?
        }
        Command::SetContext { names, current } => set_context(names, *current, files, globals)?,
        Command::SetCredentials { names, embed_certs } => set_credentials(names, *embed_certs, files, globals)?,
        Command::Set { arguments, set_raw_bytes } => match arguments.as_slice() {
            [path, value] => set(path, Some(value), *set_raw_bytes, files)?,
            _ => return super::wrong_call("kubectl config set", format!("unexpected args: {arguments:?}")),
        },
        Command::Unset { arguments } => set(only(arguments, "unset", "unexpected args")?, None, false, files)?,
        _ => String::new(),
    };
    Ok(writeln!(streams.out, "{said}")?)
}

/// A file with its content, to be changed and written.
struct Edited {
    path: PathBuf,
    content: Value,
}

impl Edited {
    /// The first file that `has` what is to be changed, else the one for new things.
    fn find(files: &Files, has: impl Fn(&Value) -> bool) -> Result<Self> {
        for path in files.paths.iter().filter(|path| path.exists()) {
            let content = kubeconfig::read_file(path)?;
            if has(&content) {
                return Ok(Self { path: path.clone(), content });
            }
        }
        match files.default_file() {
            Some(path) if path.exists() => Ok(Self { path: path.clone(), content: kubeconfig::read_file(path)? }),
            Some(path) => Ok(Self { path: path.clone(), content: json!({}) }),
            None => usage("no kubeconfig file: set KUBECONFIG or HOME"),
        }
    }

    /// The entry of a name, made where there is none; whether it was there.
    fn entry(&mut self, list: &str, inner: &str, name: &str) -> (&mut Value, bool) {
        if !self.content[list].is_array() {
            self.content[list] = json!([]);
        }
        let found = self.content.list(list).iter().position(|entry| entry.text("name") == name);
        let at = found.unwrap_or_else(|| {
            if let Some(entries) = self.content[list].as_array_mut() {
                entries.push(json!({"name": name, inner: {}}));
            }
            self.content.list(list).len() - 1
        });
        (&mut self.content[list][at][inner], found.is_some())
    }

    fn remove(&mut self, list: &str, name: &str) -> bool {
        let before = self.content.list(list).len();
        if let Some(entries) = self.content[list].as_array_mut() {
            entries.retain(|entry| entry.text("name") != name);
        }
        self.content.list(list).len() < before
    }

    fn write(&self) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let text = tree::yaml(&kubeconfig::tidy(&self.content));
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

fn has_entry(list: &'static str, name: &str) -> impl Fn(&Value) -> bool {
    move |content| kubeconfig::find(content.list(list), name).is_some()
}

fn delete(list: &'static str, kind: &str, names: &[String], files: &Files) -> Result<String> {
    let name = only(names, &format!("delete-{kind}"), &format!("unexpected args: {names:?}"))?;
    let mut edited = Edited::find(files, has_entry(list, name))?;
    let path = edited.path.display().to_string();
    if !edited.remove(list, name) {
        return usage(format!("cannot delete {kind} {name}, not in {path}"));
    }
    edited.write()?;
    Ok(format!("deleted {kind} {name} from {path}"))
}

fn rename(names: &[String], files: &Files) -> Result<String> {
    let [from, to] = names else {
        return usage(format!("unexpected args: {names:?}"));
    };
    let mut edited = Edited::find(files, has_entry("contexts", from))?;
    let path = edited.path.display().to_string();
    if kubeconfig::find(edited.content.list("contexts"), from).is_none() {
        return usage(format!("cannot rename the context {from:?}, it's not in {path}"));
    }
    if kubeconfig::find(edited.content.list("contexts"), to).is_some() {
        return usage(format!("cannot rename the context {from:?}, the context {to:?} already exists in {path}"));
    }
    for entry in edited.content["contexts"].as_array_mut().into_iter().flatten() {
        if entry.text("name") == from {
            entry["name"] = to.as_str().into();
        }
    }
    if edited.content.text("current-context") == from {
        edited.content["current-context"] = to.as_str().into();
    }
    edited.write()?;
    Ok(format!("Context {from:?} renamed to {to:?}."))
}

fn use_context(names: &[String], files: &Files) -> Result<String> {
    let name = only(names, "use-context", &format!("Unexpected args: {names:?}"))?;
    if name.is_empty() {
        return usage("empty context names are not allowed");
    }
    if kubeconfig::find(super::read(files)?.list("contexts"), name).is_none() {
        return usage(format!("no context exists with the name: {name:?}"));
    }
    let mut edited = Edited::find(files, |content| !content.text("current-context").is_empty())?;
    edited.content["current-context"] = name.into();
    edited.write()?;
    Ok(format!("Switched to context {name:?}."))
}

/// Sets the fields that flags gave; an empty flag takes the field away.
fn set_fields(target: &mut Value, fields: &[(&str, &Option<String>)]) {
    for (key, value) in fields {
        match value.as_deref() {
            None => {}
            Some("") => remove(target, key),
            Some(value) => target[*key] = value.into(),
        }
    }
}

fn remove(target: &mut Value, key: &str) {
    if let Some(fields) = target.as_object_mut() {
        fields.remove(key);
    }
}

fn set_cluster(names: &[String], embed: bool, proxy: Option<&str>, files: &Files, globals: &Globals) -> Result<String> {
    let name = only(names, "set-cluster", &format!("unexpected args: {names:?}"))?;
    if globals.insecure_skip_tls_verify && globals.certificate_authority.is_some() {
        return usage("you cannot specify a certificate authority and insecure mode at the same time");
    }
    let mut edited = Edited::find(files, has_entry("clusters", name))?;
    let dir = edited.path.parent().map(Path::to_owned).unwrap_or_default();
    let (cluster, _) = edited.entry("clusters", "cluster", name);
    let proxy = proxy.map(str::to_owned);
    set_fields(
        cluster,
        &[("server", &globals.server), ("tls-server-name", &globals.tls_server_name), ("proxy-url", &proxy)],
    );
    if globals.insecure_skip_tls_verify {
        cluster["insecure-skip-tls-verify"] = true.into();
        remove(cluster, "certificate-authority");
        remove(cluster, "certificate-authority-data");
    }
    set_file(cluster, "certificate-authority", &globals.certificate_authority, embed, &dir)?;
    if globals.certificate_authority.is_some() {
        remove(cluster, "insecure-skip-tls-verify");
    }
    edited.write()?;
    Ok(format!("Cluster {name:?} set."))
}

fn set_context(names: &[String], current: bool, files: &Files, globals: &Globals) -> Result<String> {
    let merged = super::read(files)?;
    let name = match (names, current) {
        ([], true) => match merged.text("current-context") {
            "" => return usage("no current context is set"),
            name => name,
        },
        ([name], false) => name,
        ([], false) => return usage("you must specify a non-empty context name or --current"),
        _ => return usage("you cannot specify both a context name and --current"),
    };
    let mut edited = Edited::find(files, has_entry("contexts", name))?;
    let (context, existed) = edited.entry("contexts", "context", name);
    set_fields(context, &[("cluster", &globals.cluster), ("user", &globals.user), ("namespace", &globals.namespace)]);
    edited.write()?;
    Ok(format!("Context {name:?} {}.", if existed { "modified" } else { "created" }))
}

fn set_credentials(names: &[String], embed: bool, files: &Files, globals: &Globals) -> Result<String> {
    let name = only(names, "set-credentials", &format!("unexpected args: {names:?}"))?;
    if globals.token.is_some() && (globals.username.is_some() || globals.password.is_some()) {
        return usage(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        );
    }
    let mut edited = Edited::find(files, has_entry("users", name))?;
    let dir = edited.path.parent().map(Path::to_owned).unwrap_or_default();
    let (user, _) = edited.entry("users", "user", name);
    // A token and a password exclude one another.
    if globals.token.is_some() {
        ["username", "password"].iter().for_each(|key| remove(user, key));
    }
    if globals.username.is_some() || globals.password.is_some() {
        ["token", "tokenFile"].iter().for_each(|key| remove(user, key));
    }
    set_fields(user, &[("token", &globals.token), ("username", &globals.username), ("password", &globals.password)]);
    set_file(user, "client-certificate", &globals.client_certificate, embed, &dir)?;
    set_file(user, "client-key", &globals.client_key, embed, &dir)?;
    edited.write()?;
    Ok(format!("User {name:?} set."))
}

/// A file by its name, or by its content.
fn set_file(target: &mut Value, key: &str, path: &Option<String>, embed: bool, dir: &Path) -> Result<()> {
    let data = format!("{key}-data");
    let Some(path) = path else {
        return Ok(());
    };
    if path.is_empty() {
        remove(target, key);
        remove(target, &data);
    } else if embed {
        let bytes = std::fs::read(path).map_err(|_| {
            Error::Usage(format!("could not stat {key} file {path}: stat {path}: no such file or directory"))
        })?;
        target[data.as_str()] = STANDARD.encode(bytes).into();
        remove(target, key);
    } else {
        let absolute = std::path::absolute(path)?;
        let stored = absolute.strip_prefix(std::path::absolute(dir)?).unwrap_or(&absolute);
        target[key] = stored.display().to_string().into();
        remove(target, &data);
    }
    Ok(())
}

/// Replaces the names of files by their content.
pub(super) fn embed_all(config: &mut Value) -> Result<()> {
    for (list, inner) in kubeconfig::LISTS {
        for entry in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for key in EMBEDDABLE {
                let path = entry[inner].text(key).to_owned();
                if !path.is_empty() {
                    entry[inner][format!("{key}-data")] = STANDARD.encode(std::fs::read(&path)?).into();
                    remove(&mut entry[inner], key);
                }
            }
        }
    }
    Ok(())
}

/// Sets or takes away what a path with dots names: `current-context`, `contexts.x.namespace`.
fn set(path: &str, value: Option<&str>, raw: bool, files: &Files) -> Result<String> {
    let parts: Vec<&str> = path.split('.').collect();
    if !matches!(parts[0], "clusters" | "users" | "contexts" | "current-context" | "preferences" | "extensions") {
        return usage(format!("unable to parse {path} after [] at api.Config"));
    }
    let listed = kubeconfig::LISTS.iter().find(|(list, _)| Some(list) == parts.first());
    let name = |parts: &[&str]| parts[1..parts.len().max(2) - 1].join(".");
    let mut edited = match listed {
        Some((list, _)) if parts.len() > 2 => Edited::find(files, has_entry(list, &name(&parts)))?,
        Some((list, _)) if parts.len() == 2 => Edited::find(files, has_entry(list, parts[1]))?,
        _ => Edited::find(files, |content| content.has(parts[0]))?,
    };
    match (listed, parts.as_slice(), value) {
        (Some((list, inner)), [_, _, .., field], Some(value)) if parts.len() > 2 => {
            let (entry, _) = edited.entry(list, inner, &name(&parts));
            entry[*field] = parsed(field, value, raw)?;
        }
        (Some((list, inner)), [_, _, .., field], None) if parts.len() > 2 => {
            let (entry, _) = edited.entry(list, inner, &name(&parts));
            remove(entry, field);
        }
        (Some((list, _)), [_, name], None) => {
            edited.remove(list, name);
        }
        (Some((list, _)), [_], None) => edited.content[*list] = json!([]),
        (None, [key], Some(value)) => edited.content[*key] = value.into(),
        (None, [key], None) => remove(&mut edited.content, key),
        (None, [key, field], _) => {
            let mut inner: Map<String, Value> = edited.content[*key].as_object().cloned().unwrap_or_default();
            match value {
                Some(value) => inner.insert((*field).to_owned(), parsed(field, value, raw)?),
                None => inner.remove(*field),
            };
            edited.content[*key] = inner.into();
        }
        _ => return usage(format!("unable to parse path {path}")),
    }
    edited.write()?;
    Ok(format!("Property {path:?} {}.", if value.is_some() { "set" } else { "unset" }))
}

/// A value as its field wants it.
fn parsed(field: &str, value: &str, raw: bool) -> Result<Value> {
    if matches!(field, "insecure-skip-tls-verify" | "disable-compression") {
        return truth(value).map(Value::from).map_err(Error::Usage);
    }
    if field.ends_with("-data") && raw {
        return Ok(STANDARD.encode(value).into());
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &tempfile::TempDir) -> Files {
        Files { explicit: true, paths: vec![dir.path().join("config")] }
    }

    fn content(dir: &tempfile::TempDir) -> Value {
        kubeconfig::read_file(&dir.path().join("config")).unwrap()
    }

    #[test]
    fn entries_are_made_changed_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let names = vec!["c1".to_owned()];
        let globals = Globals { cluster: Some("cl".into()), namespace: Some("ns".into()), ..Globals::default() };
        assert_eq!(set_context(&names, false, &files, &globals).unwrap(), "Context \"c1\" created.");
        assert_eq!(set_context(&names, false, &files, &globals).unwrap(), "Context \"c1\" modified.");
        set("contexts.c1.namespace", Some("z"), false, &files).unwrap();
        set("current-context", Some("c1"), false, &files).unwrap();
        assert_eq!(
            content(&dir)["contexts"],
            json!([{"name": "c1", "context": {"cluster": "cl", "namespace": "z", "user": ""}}])
        );
        rename(&["c1".into(), "c2".into()], &files).unwrap();
        assert_eq!(content(&dir)["current-context"], "c2");
        assert!(
            delete("contexts", "context", &["c2".to_owned()], &files).unwrap().starts_with("deleted context c2 from ")
        );
        let error = delete("contexts", "context", &["c2".to_owned()], &files).unwrap_err().to_string();
        assert!(error.starts_with("cannot delete context c2, not in "), "{error}");
    }

    #[test]
    fn a_password_takes_the_token_away() {
        let dir = tempfile::tempdir().unwrap();
        let (files, names) = (files(&dir), vec!["u".to_owned()]);
        let token = Globals { token: Some("t".into()), ..Globals::default() };
        set_credentials(&names, false, &files, &token).unwrap();
        let password = Globals { username: Some("a".into()), password: Some("b".into()), ..Globals::default() };
        set_credentials(&names, false, &files, &password).unwrap();
        assert_eq!(content(&dir)["users"][0]["user"], json!({"username": "a", "password": "b"}));
    }
}
