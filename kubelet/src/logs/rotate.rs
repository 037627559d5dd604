//! Rotation of containers' logs by size: the file is renamed, the runtime opens a new one, and the oldest files go.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::Runtime;

/// Rotates a running container's log when it is too large.
pub async fn rotate(
    runtime: &dyn Runtime,
    id: &str,
    path: &Path,
    max_size: u64,
    max_files: u32,
) -> std::io::Result<()> {
    let Ok(meta) = fs::metadata(path) else { return Ok(()) };
    if meta.len() < max_size {
        return Ok(());
    }
    let mut old = rotated(path)?;
    let keep = usize::try_from(max_files).unwrap_or(usize::MAX).saturating_sub(2);
    while old.len() > keep {
        fs::remove_file(old.remove(0))?;
    }
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let renamed = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &renamed)?;
    if let Err(error) = runtime.reopen_log(id).await {
        // Without a new file the container would write on into the old one: give it back its name.
        fs::rename(&renamed, path)?;
        return Err(std::io::Error::other(error));
    }
    Ok(())
}

/// Earlier files of a log, oldest first.
fn rotated(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let Some(directory) = path.parent() else { return Ok(Vec::new()) };
    let entries = fs::read_dir(directory)?.flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}
