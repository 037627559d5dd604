//! `create configmap`, and the sources of keys and values that secrets have too.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Error, Result, usage};

/// Where keys and values come from.
#[derive(Debug, Args)]
pub struct Sources {
    /// [KEY=]FILE, or a folder of files
    #[arg(long)]
    from_file: Vec<String>,
    /// KEY=VALUE
    #[arg(long)]
    from_literal: Vec<String>,
    /// A file of lines KEY=VALUE
    #[arg(long)]
    from_env_file: Vec<String>,
    /// Append a hash of the content to its name
    #[arg(long)]
    append_hash: bool,
}

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    sources: Sources,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let mut object = named("v1", "ConfigMap", options.named.name("configmap")?);
    for (key, bytes) in options.sources.read()? {
        match String::from_utf8(bytes) {
            Ok(text) => object["data"][key] = text.into(),
            Err(error) => object["binaryData"][key] = STANDARD.encode(error.into_bytes()).into(),
        }
    }
    Ok(Made { object, making: &options.named.making, failed: "failed to create configmap: " })
}

impl Sources {
    /// All keys with their values.
    ///
    /// # Errors
    /// Files that are missing, keys that come twice, and what is no pair.
    pub fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        if self.append_hash {
            return usage("--append-hash is not supported");
        }
        if !self.from_env_file.is_empty() && (!self.from_file.is_empty() || !self.from_literal.is_empty()) {
            return usage("from-env-file cannot be combined with from-file or from-literal");
        }
        let mut data = BTreeMap::new();
        for source in &self.from_file {
            files(source, &mut data)?;
        }
        for source in &self.from_literal {
            let (key, value) = pair(source)?;
            add(&mut data, key, unquoted(value).as_bytes().to_vec())?;
        }
        for file in &self.from_env_file {
            let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
            for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                match line.split_once('=') {
                    Some((key, value)) => add(&mut data, key, value.as_bytes().to_vec())?,
                    None => add(&mut data, line, std::env::var(line).unwrap_or_default().into_bytes())?,
                }
            }
        }
        Ok(data)
    }
}

fn pair(source: &str) -> Result<(&str, &str)> {
    match source.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => usage(format!("invalid literal source {source}, expected key=value")),
    }
}

/// Quotes around a whole value are not part of it.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn unreadable(path: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::Usage(format!("error reading {path}: no such file or directory")),
        _ => Error::Usage(format!("error reading {path}: {error}")),
    }
}

fn files(source: &str, data: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let (key, path) = match source.split_once('=') {
        Some((key, path)) => (Some(key), path),
        None => (None, source),
    };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(&path.display().to_string(), &error));
    let base = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let at = Path::new(path);
    if !at.is_dir() {
        return add(data, &key.map_or_else(|| base(at), str::to_owned), read(at)?);
    }
    if key.is_some() {
        return usage("cannot give a key name for a directory path");
    }
    for entry in std::fs::read_dir(at)? {
        let entry = entry?.path();
        if entry.is_file() {
            add(data, &base(&entry), read(&entry)?)?;
        }
    }
    Ok(())
}

fn add(data: &mut BTreeMap<String, Vec<u8>>, key: &str, value: Vec<u8>) -> Result<()> {
    let wrong = apimachinery::names::config_map_key(key);
    if !wrong.is_empty() {
        return usage(format!("\"{key}\" is not a valid key name for a ConfigMap: {}", wrong.join(",")));
    }
    if data.insert(key.to_owned(), value).is_some() {
        return usage(format!(
            "cannot add key \"{key}\", another key by that name already exists in Data for ConfigMap"
        ));
    }
    Ok(())
}

/// Keys and values as a secret has them.
pub fn encoded(data: BTreeMap<String, Vec<u8>>) -> Value {
    let pairs = data.into_iter().map(|(key, bytes)| (key, json!(STANDARD.encode(bytes))));
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_files_and_literals() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f.txt"), "text").unwrap();
        std::fs::write(dir.path().join("env"), "# note\nA=1\n").unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let sources = |from_file: Vec<String>, from_literal: Vec<String>, from_env_file: Vec<String>| Sources {
            from_file,
            from_literal,
            from_env_file,
            append_hash: false,
        };
        let read = |sources: Sources| {
            let data = sources.read().map_err(|error| error.to_string())?;
            Ok::<_, String>(
                data.into_iter().map(|(k, v)| format!("{k}={}", String::from_utf8(v).unwrap())).collect::<Vec<_>>(),
            )
        };
        let files = sources(vec![path("f.txt"), format!("k={}", path("f.txt"))], vec!["a='b'".into()], vec![]);
        assert_eq!(read(files).unwrap(), ["a=b", "f.txt=text", "k=text"]);
        assert_eq!(read(sources(vec![], vec![], vec![path("env")])).unwrap(), ["A=1"]);
        assert!(read(sources(vec![path("none")], vec![], vec![])).unwrap_err().ends_with("no such file or directory"));
        assert!(read(sources(vec![], vec!["a=1".into(), "a=2".into()], vec![])).unwrap_err().contains("another key"));
    }
}
