//! Static pods from a file or directory: read at the start, when inotify says so, and now and then in case it said nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::inotify::AddWatchFlags;

use super::static_pod;
use crate::inotify::Watcher;
use crate::pods::Pods;

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
            () = changed(watch.as_ref()) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Watches for files that are complete: their writer has closed them, or they were moved here.
fn watch(path: &Path) -> std::io::Result<Watcher> {
    Watcher::new(path, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE)
}

async fn changed(watch: Option<&Watcher>) {
    let Some(watch) = watch else { return std::future::pending().await };
    loop {
        match watch.events().await {
            Ok(events) => {
                if events.iter().flatten().any(|name| !hidden(Path::new(name))) || events.contains(&None) {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "changes of static pod files are not told any more");
                return std::future::pending().await;
            }
        }
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
