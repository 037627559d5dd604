//! What is mounted where, and the mounts that containers get from volumes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use nix::mount::{MntFlags, MsFlags, umount2};
use proto::cri as api;

use super::Error;
use crate::env::expand;

const TABLE: &str = "/proc/self/mounts";

fn mount_points() -> Result<Vec<PathBuf>, Error> {
    let text = fs::read_to_string(TABLE).map_err(Error::io(Path::new(TABLE)))?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(points.map(|point| PathBuf::from(point.replace("\\040", " "))).collect())
}

pub fn is_mount_point(path: &Path) -> Result<bool, Error> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Puts memory under a directory, so that what is secret never reaches a disk.
pub fn tmpfs(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(Error::io(directory))?;
    if is_mount_point(directory)? {
        return Ok(());
    }
    nix::mount::mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|source| Error::Mount { path: directory.to_owned(), source })
}

/// Unmounts everything below a directory, deepest first.
pub fn unmount_below(directory: &Path) -> Result<(), Error> {
    let mut points: Vec<PathBuf> = mount_points()?.into_iter().filter(|point| point.starts_with(directory)).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        umount2(&point, MntFlags::MNT_DETACH).map_err(|source| Error::Mount { path: point.clone(), source })?;
    }
    Ok(())
}

/// The path inside a volume, which must not lead out of it: made when it is not there.
fn sub_path(volume: &Path, sub: &str) -> Result<PathBuf, Error> {
    let relative = Path::new(sub);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::Path(sub.to_owned()));
    }
    let root = volume.canonicalize().map_err(Error::io(volume))?;
    let full = volume.join(relative);
    if !full.exists() {
        fs::create_dir_all(&full).map_err(Error::io(&full))?;
    }
    // Links in the volume are the container's to make: where they lead is checked, not trusted.
    let real = full.canonicalize().map_err(Error::io(&full))?;
    if real.starts_with(&root) { Ok(real) } else { Err(Error::Path(sub.to_owned())) }
}

/// The container's mounts of volumes.
pub fn of_container(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    environment: &[(String, String)],
) -> Result<Vec<api::Mount>, Error> {
    let value = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&mount.name).ok_or_else(|| Error::Unsupported(mount.name.clone()))?;
        let sub = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(sub), _) if !sub.is_empty() => Some(sub.clone()),
            (_, Some(expression)) if !expression.is_empty() => Some(expand(expression, value)),
            _ => None,
        };
        let host_path = match sub {
            Some(sub) => sub_path(volume, &sub)?,
            None => volume.clone(),
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
            readonly: mount.read_only.unwrap_or(false),
            propagation: propagation.into(),
            ..Default::default()
        });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_inside_its_volume() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("v");
        fs::create_dir_all(volume.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        assert_eq!(sub_path(&volume, "in").unwrap(), volume.canonicalize().unwrap().join("in"));
        assert!(sub_path(&volume, "new/deep").unwrap().is_dir());
        for bad in ["../x", "/etc", "out", "out/ssh", "in/../../x"] {
            assert!(matches!(sub_path(&volume, bad), Err(Error::Path(_))), "{bad}");
        }
    }
}
