//! What is mounted where, and the mounts that containers get from volumes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use k8s_openapi::api::core::v1::Container;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use proto::cri as api;

use super::{Error, Made, sub_path};
use crate::env::expand;

/// Whether another file system than its parent's is mounted at a directory.
fn is_mounted(directory: &Path) -> Result<bool, Error> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).map_err(Error::io(path));
    Ok(directory.parent().map(device).transpose()? != Some(device(directory)?))
}

/// Puts memory under a directory, of at most that many bytes; whether it was not there before.
pub fn tmpfs(directory: &Path, limit: Option<i64>) -> Result<bool, Error> {
    fs::create_dir_all(directory).map_err(Error::io(directory))?;
    if is_mounted(directory)? {
        return Ok(false);
    }
    let options = limit.map_or_else(|| "mode=0777".to_owned(), |size| format!("mode=0777,size={size}"));
    nix::mount::mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|source| Error::Mount { path: directory.to_owned(), source })?;
    Ok(true)
}

/// Unmounts what is mounted at a path, if anything is.
pub fn unmount(path: &Path) -> Result<(), Error> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(source) => return Err(Error::Mount { path: path.to_owned(), source }),
        }
    }
}

/// Unmounts everything that is mounted at most `depth` levels below a directory.
pub fn unmount_below(directory: &Path, depth: usize) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(directory))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io(directory))?.path();
        unmount(&path)?;
        if depth > 1 && fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            unmount_below(&path, depth - 1)?;
        }
    }
    Ok(())
}

/// The container's mounts of volumes; paths inside of volumes are made ready below the pod's directory.
pub fn of_container(
    container: &Container,
    volumes: &BTreeMap<String, Made>,
    environment: &[(String, String)],
    pod_directory: &Path,
) -> Result<Vec<api::Mount>, Error> {
    let value = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        if mount.recursive_read_only.as_deref() == Some("Enabled") {
            return Err(Error::Unsupported(format!("recursiveReadOnly mount of {}", mount.name)));
        }
        let volume = volumes.get(&mount.name).ok_or_else(|| Error::Unsupported(mount.name.clone()))?;
        let sub = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(sub), _) if !sub.is_empty() => Some(sub.clone()),
            (_, Some(expression)) if !expression.is_empty() => Some(expand(expression, value)),
            _ => None,
        };
        let host_path = match sub {
            Some(sub) => {
                let target = pod_directory.join(sub_path::DIRECTORY).join(&mount.name).join(&container.name);
                sub_path::bind(&volume.path, &sub, &target.join(index.to_string()))?
            }
            None => volume.path.clone(),
        };
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => api::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => api::MountPropagation::PropagationBidirectional,
            _ => api::MountPropagation::PropagationPrivate,
        };
        let container_path = Path::new("/").join(&mount.mount_path).display().to_string();
        mounts.push(api::Mount {
            container_path,
            host_path: host_path.display().to_string(),
            readonly: mount.read_only.unwrap_or(false) || volume.read_only,
            propagation: propagation.into(),
            ..Default::default()
        });
    }
    Ok(mounts)
}
