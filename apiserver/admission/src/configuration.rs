//! `--admission-control-config-file`: what single plugins are told, inline or in files of their own.
//!
//! Kubernetes documentation, "Admission Control in Kubernetes", and `AdmissionConfiguration` of apiserver.config.k8s.io/v1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apimachinery::codec::yaml;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const KIND: (&str, &str) = ("apiserver.config.k8s.io/v1", "AdmissionConfiguration");

/// Why the file, or a plugin's part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unable to read admission control configuration from {path:?}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("unable to read admission control configuration from {path:?}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("the configuration of the admission plugin {plugin} is a {found} instead of a {wanted}")]
    Kind { plugin: String, found: String, wanted: String },
    #[error("the configuration of the admission plugin {plugin} cannot be used: {reason}")]
    Plugin { plugin: String, reason: String },
}

/// The parts of the plugins, by name.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    parts: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    name: String,
    /// From the folder of the file that says it.
    path: Option<PathBuf>,
    /// Goes before `path`.
    configuration: Option<Value>,
}

impl Configuration {
    /// Reads the file, and those that it names.
    ///
    /// # Errors
    /// What cannot be read, or has another form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |reason: String| Error::Parse { path: path.to_owned(), reason };
        let file: File = serde_json::from_value(document(path)?).map_err(|error| bad(error.to_string()))?;
        if (file.api_version.as_str(), file.kind.as_str()) != KIND {
            return Err(bad(format!("{}, Kind={} is not {}, Kind={}", file.api_version, file.kind, KIND.0, KIND.1)));
        }
        let mut parts = BTreeMap::new();
        for Part { name, path: own, configuration } in file.plugins {
            let value = match (configuration, own) {
                (Some(value), _) => value,
                (None, Some(own)) if own.as_os_str().is_empty() => continue,
                (None, Some(own)) => document(&path.parent().unwrap_or(Path::new("")).join(own))?,
                (None, None) => continue,
            };
            parts.insert(name, value);
        }
        Ok(Configuration { parts })
    }

    /// The names of the plugins that are told something.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// What the plugin is told, as it stands.
    pub fn raw(&self, plugin: &str) -> Option<&Value> {
        self.parts.get(plugin)
    }

    /// What the plugin is told, of one of these kinds; the default if it is told nothing.
    ///
    /// # Errors
    /// A part of another kind, or with fields that the kind does not have.
    pub fn part<T: DeserializeOwned + Default>(&self, plugin: &str, kinds: &[(&str, &str)]) -> Result<T, Error> {
        let Some(value) = self.raw(plugin) else { return Ok(T::default()) };
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let found = (text("apiVersion"), text("kind"));
        if !kinds.contains(&found) {
            let shown = |(version, kind): (&str, &str)| format!("{version}, Kind={kind}");
            let wanted = kinds.iter().copied().next().map(shown).unwrap_or_default();
            return Err(Error::Kind { plugin: plugin.to_owned(), found: shown(found), wanted });
        }
        let mut own = value.clone();
        if let Some(own) = own.as_object_mut() {
            own.remove("apiVersion");
            own.remove("kind");
        }
        serde_json::from_value(own)
            .map_err(|error| Error::Plugin { plugin: plugin.to_owned(), reason: error.to_string() })
    }
}

fn document(path: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    yaml::decode(&bytes).map_err(|error| Error::Parse { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Told {
        #[serde(default)]
        level: String,
    }

    const KINDS: [(&str, &str); 1] = [("example.com/v1", "Told")];

    #[test]
    fn plugins_are_told_inline_or_in_files_beside() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        let told = |name: &str, field: &str| format!("apiVersion: example.com/v1\nkind: Told\n{field}: {name}\n");
        write("b.yaml", &told("b", "level"));
        write("c.yaml", &told("c", "lvel"));
        write("d.yaml", "apiVersion: example.com/v1\nkind: Other\n");
        write(
            "config.yaml",
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
             - name: A\n  path: absent\n  configuration: {apiVersion: example.com/v1, kind: Told, level: a}\n\
             - {name: B, path: b.yaml}\n- {name: C, path: c.yaml}\n- {name: D, path: d.yaml}\n- {name: E, path: ''}\n",
        );
        let configuration = Configuration::read(&dir.path().join("config.yaml")).expect("read");
        let part = |name: &str| configuration.part::<Told>(name, &KINDS).map_err(|error| error.to_string());
        assert_eq!(part("A"), Ok(Told { level: "a".into() }));
        assert_eq!(part("B"), Ok(Told { level: "b".into() }));
        assert!(part("C").expect_err("refused").contains("lvel"));
        assert!(part("D").expect_err("refused").contains("example.com/v1, Kind=Other instead of"));
        assert_eq!(part("E"), Ok(Told::default()));
        assert_eq!(configuration.names().collect::<Vec<_>>(), ["A", "B", "C", "D"]);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        for (text, says) in [
            (None, "unable to read admission control configuration from"),
            (Some("kind: Pod\napiVersion: v1\n"), "is not apiserver.config.k8s.io/v1, Kind=AdmissionConfiguration"),
            (Some("plugins: []\n"), "apiVersion"),
            (Some("["), "file.yaml"),
        ] {
            let path = dir.path().join("file.yaml");
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            let error = Configuration::read(&path).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
