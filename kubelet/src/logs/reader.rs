//! Reading a log as `kubectl logs` asks: the last lines, since a time, a limit of bytes, following across rotation.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::inotify::AddWatchFlags;
use tokio::sync::mpsc;

use super::parse;
use crate::inotify::Watcher;

/// Read in pieces of this size.
const PIECE: usize = 64 * 1024;

/// What part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub follow: bool,
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit: Option<usize>,
    /// `Some(true)` only stderr, `Some(false)` only stdout.
    pub stderr: Option<bool>,
}

/// Where the last `lines` lines begin. Records of one line count once.
pub fn tail_offset(content: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return content.len();
    }
    let mut starts = Vec::new();
    let mut begin = 0;
    let mut offset = 0;
    for record in content.split_inclusive(|byte| *byte == b'\n') {
        let end = offset + record.len();
        if parse(record.strip_suffix(b"\n").unwrap_or(record)).is_none_or(|record| record.full) {
            starts.push(begin);
            begin = end;
        }
        offset = end;
    }
    if begin < content.len() {
        starts.push(begin);
    }
    starts.len().checked_sub(lines).map_or(0, |index| starts.get(index).copied().unwrap_or(content.len()))
}

/// Turns records into what is sent.
struct Formatter {
    options: Options,
    sent: usize,
    at_line_start: bool,
}

impl Formatter {
    /// The bytes of complete records in `content`; `None` once the limit is reached after `out`.
    fn format(&mut self, content: &[u8], out: &mut Vec<u8>) -> bool {
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Some(record) = parse(line) else {
                tracing::debug!("a line of a log is not in CRI's format");
                continue;
            };
            let early = self.options.since.is_some_and(|since| record.timestamp().is_some_and(|time| time < since));
            if early || self.options.stderr.is_some_and(|wanted| wanted != record.stderr) {
                continue;
            }
            let before = out.len();
            if self.options.timestamps && self.at_line_start {
                out.extend_from_slice(record.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(record.text);
            if record.full {
                out.push(b'\n');
            }
            self.at_line_start = record.full;
            self.sent += out.len() - before;
            if let Some(limit) = self.options.limit.filter(|limit| self.sent >= *limit) {
                out.truncate(out.len() - (self.sent - limit));
                return false;
            }
        }
        true
    }
}

/// Reads the log and sends it in pieces, until its end or, when following, until its end after `ended`, or until nobody listens.
pub async fn stream(
    path: PathBuf,
    options: Options,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    ended: impl Future<Output = ()>,
) {
    if let Err(error) = run(path, options, &sender, ended).await {
        tracing::debug!(%error, "reading a log ended");
        if sender.send(Err(error)).await.is_err() {
            tracing::debug!("nobody listens any more");
        }
    }
}

async fn run(
    path: PathBuf,
    options: Options,
    sender: &mpsc::Sender<Result<Bytes, std::io::Error>>,
    ended: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let watch = if options.follow { Some(watch(&path)?) } else { None };
    let mut ended = std::pin::pin!(ended);
    let mut is_ended = false;
    let mut replaced = None;
    let mut file = std::fs::File::open(&path)?;
    let mut inode = file.metadata()?.ino();
    if let Some(lines) = options.tail {
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        file.seek(SeekFrom::Start(tail_offset(&content, lines) as u64))?;
    }
    let mut formatter = Formatter { options, sent: 0, at_line_start: true };
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let mut piece = vec![0; PIECE];
        let count = file.read(&mut piece)?;
        if count > 0 {
            rest.extend_from_slice(&piece[..count]);
            let complete = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut out = Vec::new();
            let more = formatter.format(&rest[..complete], &mut out);
            rest.drain(..complete);
            if !out.is_empty() && sender.send(Ok(out.into())).await.is_err() || !more {
                return Ok(());
            }
            continue;
        }
        let Some(watch) = &watch else { return Ok(()) };
        if let Some(next) = replaced.take() {
            file = next;
            continue;
        }
        if let Ok(meta) = std::fs::metadata(&path)
            && meta.ino() != inode
        {
            // Once more to the end of the old file, which nobody writes to any more.
            replaced = Some(std::fs::File::open(&path)?);
            inode = meta.ino();
            continue;
        }
        if is_ended {
            return Ok(());
        }
        tokio::select! {
            events = watch.events() => drop(events?),
            () = &mut ended => is_ended = true,
            () = sender.closed() => return Ok(()),
        }
    }
}

/// Watches the log's directory: what is written to the log, and files that take its place.
fn watch(path: &Path) -> std::io::Result<Watcher> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    Watcher::new(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

    async fn read(options: Options) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let path = file.path().to_owned();
        let task = tokio::spawn(stream(path, options, sender, std::future::ready(())));
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await {
            text.extend_from_slice(&piece.unwrap());
        }
        task.await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn parts_of_a_log() {
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        for (options, expected) in [
            (Options::default(), "one\ntwo\nthree\n"),
            (Options { follow: true, ..Default::default() }, "one\ntwo\nthree\n"),
            (Options { tail: Some(2), ..Default::default() }, "two\nthree\n"),
            (Options { tail: Some(0), ..Default::default() }, ""),
            (Options { tail: Some(9), ..Default::default() }, "one\ntwo\nthree\n"),
            (Options { since, ..Default::default() }, "two\nthree\n"),
            (Options { limit: Some(5), ..Default::default() }, "one\nt"),
            (Options { stderr: Some(true), timestamps: true, ..Default::default() }, "2026-01-01T00:00:02Z two\n"),
        ] {
            assert_eq!(read(options.clone()).await, expected, "{options:?}");
        }
    }

    #[tokio::test]
    async fn a_followed_log_is_read_across_rotation_until_its_container_ends() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let write = |text: &str| {
            let mut file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
            writeln!(file, "2026-01-01T00:00:01Z stdout F {text}").unwrap();
        };
        write("one");
        let (sender, mut receiver) = mpsc::channel(4);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let ended = async move { ended.await.unwrap() };
        let options = Options { follow: true, ..Default::default() };
        let task = tokio::spawn(stream(path.clone(), options, sender, ended));
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "one\n");
        write("two");
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "two\n");
        std::fs::rename(&path, directory.path().join("0.log.old")).unwrap();
        write("three");
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "three\n");
        write("four");
        end.send(()).unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "four\n");
        assert!(receiver.recv().await.is_none());
        task.await.unwrap();
    }
}
