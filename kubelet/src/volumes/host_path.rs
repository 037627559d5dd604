//! `hostPath`: a path of the node, checked or made as its type asks.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{Context, Error, Volume};

pub struct HostPath(pub HostPathVolumeSource);

#[async_trait]
impl Volume for HostPath {
    async fn set_up(&self, _: &Path, _: Context<'_>) -> Result<PathBuf, Error> {
        let path = PathBuf::from(&self.0.path);
        let kind = self.0.type_.as_deref().unwrap_or_default();
        match kind {
            "DirectoryOrCreate" if !path.exists() => fs::create_dir_all(&path).map_err(Error::io(&path))?,
            "FileOrCreate" if !path.exists() => fs::write(&path, b"").map_err(Error::io(&path))?,
            _ => {}
        }
        let file_type = fs::metadata(&path).map(|meta| meta.file_type()).ok();
        let is = |check: fn(&fs::FileType) -> bool| file_type.as_ref().is_some_and(check);
        let (fits, expected) = match kind {
            "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "directory"),
            "File" | "FileOrCreate" => (is(fs::FileType::is_file), "file"),
            "Socket" => (is(FileTypeExt::is_socket), "socket file"),
            "CharDevice" => (is(FileTypeExt::is_char_device), "character device"),
            "BlockDevice" => (is(FileTypeExt::is_block_device), "block device"),
            _ => (true, ""),
        };
        if fits { Ok(path) } else { Err(Error::HostPathType { path: self.0.path.clone(), expected }) }
    }

    fn plugin(&self) -> &'static str {
        "host-path"
    }
}
