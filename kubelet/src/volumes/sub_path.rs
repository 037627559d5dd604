//! Paths inside a volume that are mounted alone. Links in a volume are its users' to make, and can change at any time: a path is opened
//! without leaving the volume, and what was opened is what is mounted.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

use super::{Error, mounts};

/// Where a pod's mounts of paths inside volumes are kept.
pub const DIRECTORY: &str = "volume-subpaths";

/// Opens a path without leaving the volume through `..`, absolute links or the kernel's own.
fn open(volume: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(volume, path, how)
}

/// Opens a path inside a volume; directories that are missing are made, with the volume's mode.
fn open_or_make(volume: &Path, sub: &str) -> Result<OwnedFd, Error> {
    let relative = Path::new(sub);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::Path(sub.to_owned()));
    }
    let mode = fs::metadata(volume).map_err(Error::io(volume))?.permissions().mode() & 0o7777;
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let root = root.map_err(|errno| Error::io(volume)(errno.into()))?;
    let failed = |errno: Errno| match errno {
        Errno::EXDEV | Errno::ELOOP | Errno::ENOTDIR => Error::Path(sub.to_owned()),
        errno => Error::Io { path: volume.join(relative), source: errno.into() },
    };
    match open(root.as_fd(), relative) {
        Err(Errno::ENOENT) => {}
        found => return found.map_err(failed),
    }
    let mut at = open(root.as_fd(), Path::new(".")).map_err(failed)?;
    let mut path = PathBuf::new();
    for part in relative.components() {
        path.push(part);
        at = match open(root.as_fd(), &path) {
            Err(Errno::ENOENT) => {
                match mkdirat(&at, part.as_os_str(), Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                let made = open(root.as_fd(), &path).map_err(failed)?;
                // The process' mask took bits away.
                let through = PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd()));
                fs::set_permissions(&through, fs::Permissions::from_mode(mode)).map_err(Error::io(&through))?;
                made
            }
            found => found.map_err(failed)?,
        };
    }
    Ok(at)
}

/// Mounts the path of a volume at `target`, in place of what was mounted there, and gives `target`.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> Result<PathBuf, Error> {
    let opened = open_or_make(volume, sub)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let meta = fs::metadata(&source).map_err(Error::io(&source))?;
    mounts::unmount(target)?;
    make_mount_point(target, meta.is_dir())?;
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|source| Error::Mount { path: target.to_owned(), source })?;
    let mounted = fs::metadata(target).map_err(Error::io(target))?;
    if (mounted.dev(), mounted.ino()) == (meta.dev(), meta.ino()) {
        return Ok(target.to_owned());
    }
    mounts::unmount(target)?;
    Err(Error::Path(sub.to_owned()))
}

fn make_mount_point(target: &Path, directory: bool) -> Result<(), Error> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() == directory => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir(target).map_err(Error::io(target))?,
        Ok(_) => fs::remove_file(target).map_err(Error::io(target))?,
        Err(_) => {}
    }
    if directory { fs::create_dir(target) } else { fs::File::create(target).map(drop) }.map_err(Error::io(target))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn leads_to(volume: &Path, sub: &str) -> Result<PathBuf, Error> {
        let opened = open_or_make(volume, sub)?;
        Ok(fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap())
    }

    #[test]
    fn a_path_stays_inside_its_volume() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().canonicalize().unwrap().join("v");
        fs::create_dir_all(volume.join("in")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        symlink("in", volume.join("link")).unwrap();
        assert_eq!(leads_to(&volume, "in").unwrap(), volume.join("in"));
        assert_eq!(leads_to(&volume, "link").unwrap(), volume.join("in"));
        assert_eq!(leads_to(&volume, "./link/deep").unwrap(), volume.join("in/deep"));
        for bad in ["../x", "/etc", "out", "out/ssh", "in/../../x", "up", "up/x"] {
            assert!(matches!(leads_to(&volume, bad), Err(Error::Path(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_made_has_the_mode_of_the_volume() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o2777)).unwrap();
        leads_to(root.path(), "a/b").unwrap();
        for made in ["a", "a/b"] {
            assert_eq!(fs::metadata(root.path().join(made)).unwrap().permissions().mode() & 0o7777, 0o2777);
        }
    }
}
