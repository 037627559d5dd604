//! Static pods from a file or directory: read at the start, when inotify says so, and now and then in case it said nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::Notify;

use super::static_pod;
use crate::pods::Pods;

/// After a change, wait for the writer to finish before reading.
const SETTLE: Duration = Duration::from_millis(50);

/// Follows the path until shutdown.
pub async fn run(pods: Pods, path: PathBuf, period: Duration, ready: Arc<AtomicBool>, shutdown: Shutdown) {
    let watch = match watch(&path) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the static pod path cannot be watched; it is read every {period:?}");
            None
        }
    };
    let node = pods.agent().node_name.clone();
    loop {
        match read(&path, &node) {
            Ok(found) => pods.set_static("file", found),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the static pod path cannot be read"),
        }
        ready.store(true, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = changed(watch.as_ref()) => tokio::time::sleep(SETTLE).await,
            () = shutdown.cancelled() => return,
        }
    }
}

/// Watches from a thread of its own, since inotify's reads block; it ends with the process, or with the path.
fn watch(path: &Path) -> std::io::Result<Arc<Notify>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags =
        AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_CREATE;
    inotify.add_watch(path, flags)?;
    let changed = Arc::new(Notify::new());
    let told = Arc::clone(&changed);
    std::thread::Builder::new().name("static-pods".into()).stack_size(64 * 1024).spawn(move || {
        while let Ok(events) = inotify.read_events() {
            if events.iter().any(|event| event.name.as_ref().is_none_or(|name| !hidden(Path::new(name)))) {
                told.notify_one();
            }
        }
    })?;
    Ok(changed)
}

async fn changed(watch: Option<&Arc<Notify>>) {
    match watch {
        Some(watch) => watch.notified().await,
        None => std::future::pending().await,
    }
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// All static pods of a path. A file that is no pod is told, and the others still count.
fn read(path: &Path, node: &str) -> std::io::Result<Vec<Pod>> {
    let mut files: Vec<PathBuf> = if path.is_dir() {
        std::fs::read_dir(path)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && !hidden(path))
            .collect()
    } else {
        vec![path.to_owned()]
    };
    files.sort();
    let mut pods: Vec<Pod> = Vec::new();
    for file in files {
        let parsed = std::fs::read_to_string(&file).map_err(|error| error.to_string()).and_then(|text| {
            let origin = file.display().to_string();
            static_pod::parse(&text, "file", node, &origin, jiff::Timestamp::now()).map_err(|error| error.to_string())
        });
        match parsed {
            Ok(pod) => pods.push(pod),
            Err(error) => tracing::error!(file = %file.display(), error, "this file is no static pod"),
        }
    }
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_file_does_not_hide_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n";
        std::fs::write(directory.path().join("a.yaml"), pod).unwrap();
        std::fs::write(directory.path().join("b.yaml"), "nonsense").unwrap();
        std::fs::write(directory.path().join(".a.yaml.swp"), pod).unwrap();
        let found = read(directory.path(), "n").unwrap();
        assert_eq!(found.iter().map(crate::pod::name).collect::<Vec<_>>(), ["a-n"]);
    }
}
