//! A layer: files as an uncompressed tar with fixed owners and times, so that the same files give the same digest.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};

use ::tar::{Builder, EntryType, Header};
use anyhow::Context;

use crate::rootfs::{Entry, Files};

/// The tar of `files`, with the folders that they need.
pub fn tar(files: &Files) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for folder in parents(files) {
        append(&mut builder, &folder, &Entry::Directory { mode: 0o755 })?;
    }
    for (path, entry) in files {
        append(&mut builder, path, entry).with_context(|| format!("add {}", path.display()))?;
    }
    Ok(builder.into_inner()?)
}

fn parents(files: &Files) -> BTreeSet<PathBuf> {
    files
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|folder| *folder != Path::new("/") && !files.contains_key(*folder))
        .map(Path::to_owned)
        .collect()
}

fn append(builder: &mut Builder<Vec<u8>>, path: &Path, entry: &Entry) -> anyhow::Result<()> {
    let name = path.strip_prefix("/")?;
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Directory { mode } => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            builder.append_data(&mut header, name, std::io::empty())?;
        }
        Entry::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            builder.append_link(&mut header, name, target)?;
        }
        Entry::Text(text) => {
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes())?;
        }
        Entry::Copy { from, mode } => {
            let file = File::open(from)?;
            header.set_mode(*mode);
            header.set_size(file.metadata()?.len());
            builder.append_data(&mut header, name, file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_its_folders_first_and_is_the_same_each_time() {
        let files = Files::from([
            ("/etc/passwd".into(), Entry::Text("root\n".into())),
            ("/bin/sh".into(), Entry::Link("busybox".into())),
        ]);
        let first = tar(&files).unwrap();
        assert_eq!(first, tar(&files).unwrap());
        let mut archive = ::tar::Archive::new(first.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["bin", "etc", "bin/sh", "etc/passwd"]);
    }
}
