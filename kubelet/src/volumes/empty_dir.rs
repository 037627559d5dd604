//! `emptyDir`: a directory that lives as long as the pod, or memory.

use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource};

use super::{Context, Error, Volume, access, mounts};
use crate::pod::qos;
use crate::quantity;

pub struct EmptyDir(pub EmptyDirVolumeSource);

const MODE: u32 = 0o777;

impl EmptyDir {
    /// Most memory that the volume may take: as it says, and no more than the pod, or the node has for pods.
    fn limit(&self, context: Context<'_>) -> Option<i64> {
        let own = self.0.size_limit.as_ref().and_then(quantity::value);
        let of_container =
            |container: &Container, resource: &str| qos::limit(container, resource).and_then(quantity::value);
        let of_pod = qos::pod_total(context.pod, "memory", of_container, true);
        let of_node = context.facts.allocatable.get("memory").and_then(quantity::value);
        [own, of_pod, of_node].into_iter().flatten().filter(|size| *size > 0).min()
    }
}

#[async_trait]
impl Volume for EmptyDir {
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error> {
        let mut fresh = !directory.exists();
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        match self.0.medium.as_deref().unwrap_or_default() {
            "" => {}
            "Memory" => {
                fresh |= mounts::tmpfs(directory, self.limit(context))?;
            }
            medium => return Err(Error::Unsupported(format!("emptyDir of medium {medium}"))),
        }
        // What is there already is its containers' own.
        if fresh {
            access::set(directory, None, None, MODE)?;
            if let Some(group) = access::fs_group(context.pod) {
                access::share(directory, group)?;
            }
        }
        Ok(directory.to_owned())
    }

    fn plugin(&self) -> &'static str {
        "empty-dir"
    }
}
