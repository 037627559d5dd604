//! Objects from files, directories and standard input: YAML of several documents, JSON, and lists.

use std::io::Read;
use std::path::{Path, PathBuf};

use apimachinery::codec::yaml;
use serde_json::Value;

use crate::error::{Error, Result, usage};

/// An object and the file it came from.
#[derive(Debug)]
pub struct Manifest {
    pub source: String,
    pub object: Value,
}

/// Reads all of `-f`. Directories give their `.yaml`, `.yml` and `.json` files in order of name.
pub fn read(files: &[String], recursive: bool) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for file in files {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            parse("STDIN", &text, &mut manifests)?;
            continue;
        }
        for path in expand(Path::new(file), recursive)? {
            let text = std::fs::read_to_string(&path)?;
            parse(&path.display().to_string(), &text, &mut manifests)?;
        }
    }
    if manifests.is_empty() { usage("no objects passed") } else { Ok(manifests) }
}

fn expand(path: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    if !path.exists() {
        return usage(format!("the path \"{}\" does not exist", path.display()));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            if recursive {
                files.extend(expand(&entry, true)?);
            }
        } else if entry.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json") {
            files.push(entry);
        }
    }
    Ok(files)
}

fn parse(source: &str, text: &str, into: &mut Vec<Manifest>) -> Result<()> {
    let documents = if text.trim_start().starts_with('{') { vec![text] } else { yaml::documents(text) };
    for document in documents {
        let object = yaml::decode(document.as_bytes())
            .map_err(|error| Error::Usage(format!("error parsing {source}: {error}")))?;
        if !object.is_null() {
            flatten(source, object, into)?;
        }
    }
    Ok(())
}

fn flatten(source: &str, mut object: Value, into: &mut Vec<Manifest>) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind.is_empty() {
        return usage(format!("error validating \"{source}\": error validating data: kind not set"));
    }
    if object["apiVersion"].as_str().is_none_or(str::is_empty) {
        return usage(format!("error validating \"{source}\": error validating data: apiVersion not set"));
    }
    match object.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
            items.into_iter().try_for_each(|item| flatten(source, item, into))
        }
        taken => {
            if let Some(taken) = taken {
                object["items"] = taken;
            }
            into.push(Manifest { source: source.to_owned(), object });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_become_objects() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n# only a comment\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
        let mut manifests = Vec::new();
        parse("x", text, &mut manifests).unwrap();
        let names: Vec<_> = manifests.iter().map(|m| m.object["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn an_object_has_a_kind() {
        assert!(parse("x", "apiVersion: v1\n", &mut Vec::new()).unwrap_err().to_string().contains("kind not set"));
    }

    #[test]
    fn a_directory_gives_its_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in [("b.yaml", "b"), ("a.json", "a"), ("c.txt", "c")] {
            let text = format!("{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{name}\"}}}}");
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let found = read(&[dir.path().display().to_string()], false).unwrap();
        let names: Vec<_> = found.iter().map(|m| m.object["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
