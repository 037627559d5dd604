//! Files that change together: the content lies in a directory with a new name, `..data` links to it, and the visible names link through
//! `..data`. A reader sees all of the old content or all of the new.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::Error;

/// A file to write: its content and mode.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub content: Vec<u8>,
    pub mode: u32,
}

pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";

fn check(path: &str) -> Result<(), Error> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !path.is_empty() && !path.starts_with("..") { Ok(()) } else { Err(Error::Path(path.to_owned())) }
}

/// Makes `directory` show exactly these files.
pub fn write(directory: &Path, files: &Files) -> Result<(), Error> {
    files.keys().try_for_each(|path| check(path))?;
    fs::create_dir_all(directory).map_err(Error::io(directory))?;
    let data = directory.join(DATA);
    let old = fs::read_link(&data).ok();
    if old.as_ref().is_some_and(|old| same(&directory.join(old), files)) {
        return Ok(());
    }
    let name = format!("..{}", jiff::Timestamp::now().as_nanosecond());
    let fresh = directory.join(&name);
    fs::create_dir(&fresh).map_err(Error::io(&fresh))?;
    set_mode(&fresh, 0o755)?;
    for (path, file) in files {
        write_file(&fresh, path, file)?;
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

fn write_file(root: &Path, path: &str, file: &File) -> Result<(), Error> {
    let full = root.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    fs::write(&full, &file.content).map_err(Error::io(&full))?;
    set_mode(&full, file.mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(path))
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

/// Gives everything below a path to a group, which may read it (and write where the owner may), as `fsGroup` asks.
pub fn own(path: &Path, group: i64) -> Result<(), Error> {
    let group = nix::unistd::Gid::from_raw(u32::try_from(group).unwrap_or(u32::MAX));
    let mut open = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        let meta = fs::symlink_metadata(&next).map_err(Error::io(&next))?;
        if meta.is_symlink() {
            continue;
        }
        nix::unistd::chown(&next, None, Some(group))
            .map_err(|source| Error::Io { path: next.clone(), source: source.into() })?;
        let mode = meta.permissions().mode();
        let shared = mode | ((mode & 0o700) >> 3);
        set_mode(&next, if meta.is_dir() { shared | 0o2070 } else { shared | 0o040 })?;
        if meta.is_dir() {
            open.extend(fs::read_dir(&next).map_err(Error::io(&next))?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, text)| ((*path).to_owned(), File { content: text.as_bytes().to_vec(), mode: 0o644 }))
            .collect()
    }

    #[test]
    fn content_is_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("v");
        write(&directory, &files(&[("a", "1"), ("d/b", "2")])).unwrap();
        let first = fs::read_link(directory.join(DATA)).unwrap();
        assert_eq!(fs::read_to_string(directory.join("d/b")).unwrap(), "2");
        write(&directory, &files(&[("a", "1"), ("d/b", "2")])).unwrap();
        assert_eq!(fs::read_link(directory.join(DATA)).unwrap(), first, "the same content is left alone");
        write(&directory, &files(&[("a", "9"), ("c", "3")])).unwrap();
        assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "9");
        assert!(!directory.join("d").exists() && !directory.join(&first).exists());
    }

    #[test]
    fn a_path_that_leaves_the_volume_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for path in ["../a", "/a", "a/../../b", "..x", ""] {
            assert!(matches!(write(root.path(), &files(&[(path, "")])), Err(Error::Path(_))), "{path}");
        }
    }
}
