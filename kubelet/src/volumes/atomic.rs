//! Files that change together: the content lies in a directory with a new name, `..data` links to it, and the visible names link through
//! `..data`. A reader sees all of the old content or all of the new.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use super::{Error, access};

/// A file to write.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub content: Vec<u8>,
    pub mode: u32,
    /// Its user; the kubelet's own unless given.
    pub owner: Option<u32>,
}

pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const DIRECTORY_MODE: u32 = 0o755;
/// Mode of what is mounted: whoever may not enter a file's directories is kept out by the file's own mode.
const ROOT_MODE: u32 = 0o777;

fn check(path: &str) -> Result<(), Error> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !path.is_empty() && !path.starts_with("..") { Ok(()) } else { Err(Error::Path(path.to_owned())) }
}

/// Makes `directory` show exactly these files, readable for a group if one is given.
pub fn write(directory: &Path, files: &Files, group: Option<u32>) -> Result<(), Error> {
    files.keys().try_for_each(|path| check(path))?;
    fs::create_dir_all(directory).map_err(Error::io(directory))?;
    let data = directory.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.as_ref().is_some_and(|old| same(&directory.join(old), files)) {
        return Ok(());
    }
    own(directory, None, group, ROOT_MODE)?;
    let name = format!("..{}", jiff::Timestamp::now().as_nanosecond());
    let fresh = directory.join(&name);
    fs::create_dir(&fresh).map_err(Error::io(&fresh))?;
    own(&fresh, None, group, DIRECTORY_MODE)?;
    for (path, file) in files {
        write_file(&fresh, path, file, group)?;
    }
    let link = directory.join("..data_tmp");
    remove_if_there(&link)?;
    symlink(&name, &link).map_err(Error::io(&link))?;
    fs::rename(&link, &data).map_err(Error::io(&data))?;
    show(directory, files)?;
    match old {
        Some(old) => fs::remove_dir_all(directory.join(&old)).map_err(Error::io(&old)),
        None => Ok(()),
    }
}

fn write_file(root: &Path, path: &str, file: &File, group: Option<u32>) -> Result<(), Error> {
    let mut at = root.to_owned();
    for part in Path::new(path).parent().iter().flat_map(|parent| parent.components()) {
        at.push(part);
        if !at.exists() {
            fs::create_dir(&at).map_err(Error::io(&at))?;
            own(&at, None, group, DIRECTORY_MODE)?;
        }
    }
    let full = root.join(path);
    fs::write(&full, &file.content).map_err(Error::io(&full))?;
    own(&full, file.owner, group, file.mode)
}

fn own(path: &Path, owner: Option<u32>, group: Option<u32>, mode: u32) -> Result<(), Error> {
    let mode = if group.is_some() { access::readable(mode, path.is_dir()) } else { mode };
    access::set(path, owner, group, mode)
}

fn same(directory: &Path, files: &Files) -> bool {
    let mut count = 0;
    let mut open: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
                continue;
            }
            count += 1;
            let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
            let Some(file) = files.get(&name) else { return false };
            if fs::read(&path).ok().as_ref() != Some(&file.content) {
                return false;
            }
        }
    }
    count == files.len()
}

/// Links the first part of each path through `..data`, and removes links of what is gone.
fn show(directory: &Path, files: &Files) -> Result<(), Error> {
    let first = |path: &str| path.split('/').next().unwrap_or(path).to_owned();
    let visible: std::collections::BTreeSet<String> = files.keys().map(|path| first(path)).collect();
    for name in &visible {
        let link = directory.join(name);
        let target = Path::new(DATA).join(name);
        if fs::read_link(&link).ok().as_ref() != Some(&target) {
            remove_if_there(&link)?;
            symlink(&target, &link).map_err(Error::io(&link))?;
        }
    }
    for entry in fs::read_dir(directory).map_err(Error::io(directory))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !visible.contains(&name) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, text)| {
                ((*path).to_owned(), File { content: text.as_bytes().to_vec(), mode: 0o644, owner: None })
            })
            .collect()
    }

    #[test]
    fn content_is_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("v");
        write(&directory, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        let first = fs::read_link(directory.join(DATA)).unwrap();
        assert_eq!(fs::read_to_string(directory.join("d/b")).unwrap(), "2");
        write(&directory, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(directory.join(DATA)).unwrap(), first, "the same content is left alone");
        write(&directory, &files(&[("a", "9"), ("c", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "9");
        assert!(!directory.join("d").exists() && !directory.join(&first).exists());
    }

    #[test]
    fn a_path_that_leaves_the_volume_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for path in ["../a", "/a", "a/../../b", "..x", ""] {
            assert!(matches!(write(root.path(), &files(&[(path, "")]), None), Err(Error::Path(_))), "{path}");
        }
    }
}
