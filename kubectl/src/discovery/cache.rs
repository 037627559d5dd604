//! Discovery on disk, laid out as kubectl does it, so that both may use one folder: the groups in one file, the resources
//! of each version in another.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Discovery, GroupVersion, Resource, fetch, group_version};
use crate::fields::Fields;

/// How long what was found holds.
const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
const GROUPS: &str = "servergroups.json";
const RESOURCES: &str = "serverresources.json";

/// What is cached in a folder; `None` where there is nothing, or it is too old.
pub fn load(dir: &Path) -> Option<Discovery> {
    let groups = read(&dir.join(GROUPS))?;
    let mut versions = Vec::new();
    for group in groups.list("groups") {
        let preferred = group.text("preferredVersion.version");
        let (first, others): (Vec<&Value>, Vec<&Value>) =
            group.list("versions").iter().partition(|version| version.text("version") == preferred);
        for (place, version) in first.into_iter().chain(others).enumerate() {
            versions.push(GroupVersion {
                group: group.text("name").to_owned(),
                version: version.text("version").to_owned(),
                preferred: place == 0,
                resources: OnceCell::new(),
                file: Some(dir.join(version.text("groupVersion")).join(RESOURCES)),
            });
        }
    }
    Some(Discovery { versions, fresh: false })
}

/// The resources in one file.
pub(super) fn resources(file: &Path, group: &str, version: &str) -> Option<Vec<Resource>> {
    Some(fetch::resources_of_list(&read(file)?, group, version))
}

fn read(file: &Path) -> Option<Value> {
    let age = fs::metadata(file).ok()?.modified().ok()?.elapsed().unwrap_or_default();
    if age > LIFETIME {
        return None;
    }
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Writes what was found into a folder.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(discovery: &Discovery, dir: &Path) -> io::Result<()> {
    let mut groups: Vec<Value> = Vec::new();
    for version in &discovery.versions {
        let text = group_version(&version.group, &version.version);
        let entry = json!({"groupVersion": text, "version": version.version});
        match groups.last_mut().filter(|group| group.text("name") == version.group) {
            Some(group) => {
                if let Some(versions) = group["versions"].as_array_mut() {
                    versions.push(entry);
                }
            }
            None => groups.push(json!({"name": version.group, "versions": [entry], "preferredVersion": entry})),
        }
        let resources: Vec<Value> = version.resources().iter().flat_map(entries).collect();
        let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": text, "resources": resources});
        write(&dir.join(&text).join(RESOURCES), &list)?;
    }
    write(&dir.join(GROUPS), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// A resource and its subresources, as in an `APIResourceList`.
fn entries(resource: &Resource) -> Vec<Value> {
    let mut own = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs});
    if !resource.short.is_empty() {
        own["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        own["categories"] = json!(resource.categories);
    }
    let mut entries = vec![own];
    for below in &resource.subresources {
        let mut entry = json!({"name": format!("{}/{}", resource.plural, below.name), "singularName": "",
            "namespaced": resource.namespaced, "kind": below.kind, "verbs": below.verbs});
        for (key, value) in [("group", &below.group), ("version", &below.version)] {
            if !value.is_empty() {
                entry[key] = value.as_str().into();
            }
        }
        entries.push(entry);
    }
    entries
}

/// By rename, so that nobody reads half a file.
fn write(file: &Path, value: &Value) -> io::Result<()> {
    let dir = file.parent().unwrap_or(file);
    fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    let draft = PathBuf::from(format!("{}.{}", file.display(), std::process::id()));
    let mut open = fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o660).open(&draft)?.write_all(value.to_string().as_bytes())?;
    fs::rename(draft, file)
}
