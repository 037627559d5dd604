//! Reading a log as `kubectl logs` asks: the last lines, since a time, a limit of bytes, following across rotation.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::parse;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);
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

/// Reads the log and sends it in pieces, until its end or, when following, until `ended` says so or nobody listens.
pub async fn stream(
    path: PathBuf,
    options: Options,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    ended: impl Fn() -> bool,
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
    ended: impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut file = std::fs::File::open(&path)?;
    let mut inode = file.metadata()?.ino();
    if let Some(lines) = options.tail {
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        file.seek(SeekFrom::Start(tail_offset(&content, lines) as u64))?;
    }
    let follow = options.follow;
    let mut formatter = Formatter { options, sent: 0, at_line_start: true };
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let was_ended = ended();
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
        if !follow {
            return Ok(());
        }
        if let Ok(meta) = std::fs::metadata(&path)
            && meta.ino() != inode
        {
            file = std::fs::File::open(&path)?;
            inode = meta.ino();
            continue;
        }
        if was_ended {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = sender.closed() => return Ok(()),
        }
    }
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
        let task = tokio::spawn(stream(path, options, sender, || true));
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
}
