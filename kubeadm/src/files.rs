//! Files as values: phases plan them, `write_all` puts them below a root.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A file that a phase wants, with its absolute path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    pub path: PathBuf,
    pub mode: u32,
    pub contents: String,
}

impl File {
    /// A file that anyone may read.
    pub fn public(path: impl Into<PathBuf>, contents: impl Into<String>) -> Self {
        File { path: path.into(), mode: 0o644, contents: contents.into() }
    }

    /// A file with a secret in it.
    pub fn secret(path: impl Into<PathBuf>, contents: impl Into<String>) -> Self {
        File { path: path.into(), mode: 0o600, contents: contents.into() }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Where the files of a node are: `/`, or a folder in its place.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Root(path.into())
    }

    /// The real path of an absolute path.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The contents of a file, or nothing when there is none.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<String>, Error> {
        let path = self.path(path);
        match fs::read_to_string(&path) {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error { action: "read", path, source }),
        }
    }

    /// Writes the files, each by rename, so that a reader (the kubelet watches the manifests) never sees half of one.
    pub fn write_all(&self, files: &[File]) -> Result<(), Error> {
        files.iter().try_for_each(|file| self.write(file))
    }

    fn write(&self, file: &File) -> Result<(), Error> {
        let path = self.path(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| Error { action: "create", path: parent.into(), source })?;
        }
        // A name that starts with a dot is skipped by the kubelet.
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.new"));
        write_file(&temporary, file).map_err(|source| Error { action: "write", path: temporary.clone(), source })?;
        fs::rename(&temporary, &path).map_err(|source| Error { action: "write", path, source })
    }

    /// Removes a file or folder with all in it; it may be absent.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = self.path(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| Error { action: "remove", path, source })
    }
}

fn write_file(path: &Path, file: &File) -> io::Result<()> {
    use io::Write;
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(file.mode).open(path)?;
    out.set_permissions(fs::Permissions::from_mode(file.mode))?;
    out.write_all(file.contents.as_bytes())?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_land_below_the_root_with_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        root.write_all(&[
            File::secret("/etc/kubernetes/pki/ca.key", "k"),
            File::public("/etc/kubernetes/pki/ca.crt", "c"),
        ])
        .unwrap();
        let path = dir.path().join("etc/kubernetes/pki/ca.key");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(root.read("/etc/kubernetes/pki/ca.crt").unwrap().as_deref(), Some("c"));
        assert_eq!(root.read("/etc/kubernetes/none").unwrap(), None);
        root.remove("/etc/kubernetes").unwrap();
        assert!(!dir.path().join("etc/kubernetes").exists());
        root.remove("/etc/kubernetes").unwrap();
    }
}
