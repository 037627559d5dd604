//! Objects from files, directories, URLs and standard input: YAML of several documents, JSON, and lists.

use std::path::{Path, PathBuf};

use apimachinery::codec::yaml;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::options::Files;
use crate::printers::json;
use crate::streams::Streams;

/// An object and the file it came from.
#[derive(Debug)]
pub struct Manifest {
    pub source: String,
    pub object: Value,
}

/// The objects that could be read, and why others could not.
#[derive(Debug, Default)]
pub struct Manifests {
    pub read: Vec<Manifest>,
    pub failed: Vec<Error>,
    /// Whether a document that does not say what it is fails as invalid.
    validated: bool,
}

/// Reads all of `-f`. `validated` are those that say what they are. Directories give their `.yaml`, `.yml` and `.json` files in order of name.
///
/// # Errors
/// When a file is missing.
pub async fn read(files: &Files, validated: bool, streams: &mut Streams) -> Result<Manifests> {
    let mut texts = Vec::new();
    for file in &files.filename {
        if file == "-" {
            texts.push(("STDIN".to_owned(), streams.read_input()?));
        } else if file.starts_with("http://") || file.starts_with("https://") {
            texts.push((file.clone(), download(file).await?));
        } else {
            for path in expand(Path::new(file), files.recursive)? {
                texts.push((path.display().to_string(), std::fs::read_to_string(&path)?));
            }
        }
    }
    let mut manifests = Manifests { validated, ..Manifests::default() };
    for (source, text) in texts {
        if let Err(error) = parse(&source, &text, &mut manifests) {
            manifests.failed.push(error);
        }
    }
    Ok(manifests)
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
    if files.is_empty() && !recursive {
        return usage(format!("error reading [{}]: recognized file extensions are [.json .yaml .yml]", path.display()));
    }
    Ok(files)
}

/// The text at a URL of some web server.
async fn download(url: &str) -> Result<String> {
    let failed = |why: String| Error::Usage(format!("unable to read URL \"{url}\", {why}"));
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut root = uri.into_parts();
    root.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let root = http::Uri::from_parts(root).map_err(|error| failed(error.to_string()))?;
    let client = kube::Client::try_from(kube::Config::new(root)).map_err(|error| failed(error.to_string()))?;
    let request = http::Request::get(path).body(Body::empty()).map_err(|error| failed(error.to_string()))?;
    let response = client.send(request).await.map_err(|error| failed(error.to_string()))?;
    let status = response.status();
    if !status.is_success() {
        return Err(failed(format!("server reported {status}, status code={}", status.as_u16())));
    }
    let body = response.into_body().collect().await.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(body.to_bytes().into()).map_err(|error| failed(error.to_string()))
}

fn parse(source: &str, text: &str, into: &mut Manifests) -> Result<()> {
    if text.trim_start().starts_with('{') {
        for object in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            document(source, object.map_err(|error| unreadable(source, &error))?, into);
        }
        return Ok(());
    }
    for part in yaml::documents(text) {
        let object = yaml::decode(part.as_bytes()).map_err(|error| unreadable(source, &error))?;
        if !object.is_null() {
            document(source, object, into);
        }
    }
    Ok(())
}

fn unreadable(source: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!("error parsing {source}: {why}"))
}

/// One document, which says what it is.
fn document(source: &str, object: Value, into: &mut Manifests) {
    let unset = |field: &&str| !object.has(field);
    let mut missing: Vec<String> =
        ["apiVersion", "kind"].iter().filter(|field| unset(field)).map(|field| format!("{field} not set")).collect();
    if !into.validated || missing.is_empty() {
        return flatten(source, object, into);
    }
    let why = if missing.len() == 1 { missing.remove(0) } else { format!("[{}]", missing.join(", ")) };
    into.failed.push(Error::Usage(format!(
        "error validating \"{source}\": error validating data: {why}; if you choose to ignore these errors, turn validation off with --validate=false"
    )));
}

/// One object, or each of a list.
fn flatten(source: &str, mut object: Value, into: &mut Manifests) {
    if object.text("kind").is_empty() {
        let why = format!("Object 'Kind' is missing in '{}'", json::compact(&object));
        into.failed.push(Error::Usage(format!("unable to decode \"{source}\": {why}")));
        return;
    }
    let listed = object.text("kind").ends_with("List") && object["items"].is_array();
    if !listed {
        into.read.push(Manifest { source: source.to_owned(), object });
        return;
    }
    if let Value::Array(items) = object["items"].take() {
        for item in items {
            flatten(source, item, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(manifests: &Manifests) -> Vec<&str> {
        manifests.read.iter().map(|manifest| crate::fields::name(&manifest.object)).collect()
    }

    #[test]
    fn documents_and_lists_become_objects() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n# only a comment\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
        let mut manifests = Manifests::default();
        parse("x", text, &mut manifests).unwrap();
        let json = r#"{"kind": "Pod", "metadata": {"name": "c"}} {"kind": "Pod", "metadata": {"name": "d"}}"#;
        parse("y", json, &mut manifests).unwrap();
        assert_eq!(names(&manifests), ["a", "b", "c", "d"]);
    }

    #[test]
    fn an_object_has_a_kind() {
        let mut manifests = Manifests::default();
        parse("x", "apiVersion: v1\n", &mut manifests).unwrap();
        let error = manifests.failed.remove(0).to_string();
        assert_eq!(error, "unable to decode \"x\": Object 'Kind' is missing in '{\"apiVersion\":\"v1\"}'");
    }

    #[test]
    fn a_directory_gives_its_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["b.yaml", "a.json", "c.txt"] {
            std::fs::write(dir.path().join(file), "{}").unwrap();
        }
        let found = expand(dir.path(), false).unwrap();
        assert_eq!(found, [dir.path().join("a.json"), dir.path().join("b.yaml")]);
        assert!(expand(&dir.path().join("none"), false).is_err());
    }
}
