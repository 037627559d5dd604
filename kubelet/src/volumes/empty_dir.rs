//! `emptyDir`: a directory that lives as long as the pod, or memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::MsFlags;

use super::{Context, Error, Volume, mounts};
use crate::quantity;

pub struct EmptyDir(pub EmptyDirVolumeSource);

#[async_trait]
impl Volume for EmptyDir {
    async fn set_up(&self, directory: &Path, _: Context<'_>) -> Result<PathBuf, Error> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        if self.0.medium.as_deref() == Some("Memory") && !mounts::is_mount_point(directory)? {
            let size = self.0.size_limit.as_ref().and_then(quantity::value).filter(|size| *size > 0);
            let options = size.map_or_else(|| "mode=0777".to_owned(), |size| format!("mode=0777,size={size}"));
            nix::mount::mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
                .map_err(|source| Error::Mount { path: directory.to_owned(), source })?;
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).map_err(Error::io(directory))?;
        Ok(directory.to_owned())
    }

    fn plugin(&self) -> &'static str {
        "empty-dir"
    }
}
