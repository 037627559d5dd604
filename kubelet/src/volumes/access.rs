//! Who may read and write what a volume holds: `fsGroup` and the user that all containers of a pod run as.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use nix::unistd::{Gid, Uid};

use super::Error;
use crate::runtime::container_config::run_as_user;

/// Bits that the group gets: files of volumes that may be written, those of volumes that may not, directories.
const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
/// The group may enter directories, and what is made in them belongs to it.
const DIRECTORY: u32 = 0o2110;

/// The pod's `fsGroup`.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = crate::pod::spec(pod).security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The user that all containers run as, if they all say the same.
pub fn only_user(pod: &Pod) -> Option<u32> {
    let spec = crate::pod::spec(pod);
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| run_as_user(pod, c));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// The mode of a file for a group that may read it, or of a directory.
pub fn readable(mode: u32, is_directory: bool) -> u32 {
    mode | READ_ONLY | if is_directory { DIRECTORY } else { 0 }
}

/// Sets owner, group and mode of one path.
pub fn set(path: &Path, owner: Option<u32>, group: Option<u32>, mode: u32) -> Result<(), Error> {
    if owner.is_some() || group.is_some() {
        let failed = |source: nix::Error| Error::Io { path: path.to_owned(), source: source.into() };
        nix::unistd::chown(path, owner.map(Uid::from_raw), group.map(Gid::from_raw)).map_err(failed)?;
    }
    // After the change of owner, which clears bits.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(path))
}

/// Gives everything below a path to a group, which may read and write it.
pub fn share(path: &Path, group: u32) -> Result<(), Error> {
    let mut open: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        let meta = fs::symlink_metadata(&next).map_err(Error::io(&next))?;
        if meta.is_symlink() {
            continue;
        }
        let mode = (meta.permissions().mode() & 0o7777) | READ_WRITE | if meta.is_dir() { DIRECTORY } else { 0 };
        set(&next, None, Some(group), mode)?;
        if meta.is_dir() {
            open.extend(fs::read_dir(&next).map_err(Error::io(&next))?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_only_user_is_one_that_all_containers_share() {
        for (of_pod, containers, expected) in [
            (json!({}), json!([{"name": "a"}]), None),
            (json!({"runAsUser": 5}), json!([{"name": "a"}, {"name": "b"}]), Some(5)),
            (json!({"runAsUser": 5}), json!([{"name": "a", "securityContext": {"runAsUser": 6}}, {"name": "b"}]), None),
            (json!({}), json!([{"name": "a", "securityContext": {"runAsUser": 6}}]), Some(6)),
        ] {
            let pod = json!({"spec": {"securityContext": of_pod, "containers": containers}});
            assert_eq!(only_user(&serde_json::from_value(pod.clone()).unwrap()), expected, "{pod}");
        }
    }

    #[test]
    fn modes_are_widened_for_the_group_only() {
        assert_eq!([readable(0o400, false), readable(0o600, false), readable(0o755, true)], [0o440, 0o640, 0o2755]);
    }
}
