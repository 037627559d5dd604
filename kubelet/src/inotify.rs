//! Changes of files, as the kernel tells them.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

/// Room for some events, each with a name of the longest kind.
const BUFFER: usize = 4096;
/// Watch, mask, cookie and the length of the name, four bytes each.
const HEADER: usize = 16;

/// Watches a file or directory.
pub struct Watcher {
    /// What inotify tells is read as from a pipe: tokio waits for any such descriptor in the same way.
    told: Receiver,
}

impl Watcher {
    /// Watches one path. Must be called within a tokio runtime.
    pub fn new(path: &Path, flags: AddWatchFlags) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(path, flags)?;
        Ok(Self { told: Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))? })
    }

    /// Waits for the next events: the names of the files in the watched directory that they are about, `None` for the path itself.
    /// Cancelling this future loses none.
    pub async fn events(&self) -> io::Result<Vec<Option<OsString>>> {
        loop {
            self.told.readable().await?;
            let mut buffer = [0; BUFFER];
            match self.told.try_read(&mut buffer) {
                Ok(count) => return Ok(names(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The names in a sequence of `struct inotify_event`.
fn names(mut bytes: &[u8]) -> Vec<Option<OsString>> {
    let mut names = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(HEADER) {
        let length = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]) as usize;
        let Some((name, rest)) = rest.split_at_checked(length) else { break };
        let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
        names.push((!name.is_empty()).then(|| OsString::from_vec(name)));
        bytes = rest;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_in_a_directory_is_told_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let watch = Watcher::new(directory.path(), AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE).unwrap();
        for name in ["a", "a-much-longer-name"] {
            std::fs::write(directory.path().join(name), "x").unwrap();
            assert_eq!(watch.events().await.unwrap(), [Some(OsString::from(name))]);
        }
        std::fs::remove_file(directory.path().join("a")).unwrap();
        assert_eq!(watch.events().await.unwrap(), [Some(OsString::from("a"))]);
    }
}
