//! Volumes of pods: each kind is one file with one [`Volume`]; this module mounts, refreshes and removes all of a pod's.

mod atomic;
mod config;
mod empty_dir;
mod host_path;
pub mod mounts;
mod projected;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume as Spec};

use crate::downward;
use crate::objects::{Objects, Unavailable};

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("hostPath type check failed: {path} is not a {expected}")]
    HostPathType { path: String, expected: &'static str },
    #[error(transparent)]
    Object(#[from] Unavailable),
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error(transparent)]
    Field(#[from] downward::Error),
    #[error("mount of {path}")]
    Mount {
        path: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error("volume {0:?}: this kind of volume is not supported yet")]
    Unsupported(String),
    #[error("invalid path {0:?}: it leaves the volume")]
    Path(String),
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// What a volume may need to know.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub facts: downward::Facts<'a>,
    pub objects: &'a Objects,
}

/// One kind of volume.
#[async_trait]
pub trait Volume: Send + Sync {
    /// Makes the volume usable, or brings its content up to date; done again it changes nothing. Gives the path on the host.
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error>;
    /// Undoes it, before the directory is removed.
    fn tear_down(&self, _directory: &Path) -> Result<(), Error> {
        Ok(())
    }
    /// Whether the content follows objects of the API and has to be looked at again.
    fn follows(&self) -> bool {
        false
    }
    /// The name of the plugin in paths.
    fn plugin(&self) -> &'static str;
}

fn volume(spec: &Spec) -> Result<Box<dyn Volume>, Error> {
    if let Some(source) = &spec.empty_dir {
        return Ok(Box::new(empty_dir::EmptyDir(source.clone())));
    }
    if let Some(source) = &spec.host_path {
        return Ok(Box::new(host_path::HostPath(source.clone())));
    }
    if let Some(source) = &spec.config_map {
        return Ok(Box::new(config::ConfigMapVolume(source.clone())));
    }
    if let Some(source) = &spec.secret {
        return Ok(Box::new(config::SecretVolume(source.clone())));
    }
    if let Some(source) = &spec.downward_api {
        return Ok(Box::new(config::DownwardVolume(source.clone())));
    }
    if let Some(source) = &spec.projected {
        return Ok(Box::new(projected::Projected::new(source.clone())));
    }
    Err(Error::Unsupported(spec.name.clone()))
}

/// The volumes of one pod.
pub struct PodVolumes {
    directory: PathBuf,
    volumes: Vec<(String, Arc<dyn Volume>)>,
    paths: BTreeMap<String, PathBuf>,
    ready: bool,
}

/// A volume's failure with its name.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {name:?}: {source}")]
pub struct Failed {
    pub name: String,
    #[source]
    pub source: Error,
}

impl PodVolumes {
    /// The volumes below the kubelet's root directory.
    pub fn new(root: &Path, pod: &Pod) -> Result<Self, Failed> {
        let mut volumes = Vec::new();
        for spec in crate::pod::spec(pod).volumes.iter().flatten() {
            let made = volume(spec).map_err(|source| Failed { name: spec.name.clone(), source })?;
            volumes.push((spec.name.clone(), Arc::from(made)));
        }
        let directory = pod_directory(root, crate::pod::uid(pod));
        Ok(Self { directory, volumes, paths: BTreeMap::new(), ready: false })
    }

    pub fn paths(&self) -> &BTreeMap<String, PathBuf> {
        &self.paths
    }

    /// Whether any volume's content follows the API.
    pub fn follow(&self) -> bool {
        self.volumes.iter().any(|(_, volume)| volume.follows())
    }

    /// Makes all volumes usable, once.
    pub async fn set_up(&mut self, context: Context<'_>) -> Result<(), Failed> {
        if !self.ready {
            self.each(context, false).await?;
            self.ready = true;
        }
        Ok(())
    }

    /// Brings the volumes that follow the API up to date.
    pub async fn refresh(&mut self, context: Context<'_>) -> Result<(), Failed> {
        if self.ready { self.each(context, true).await } else { Ok(()) }
    }

    async fn each(&mut self, context: Context<'_>, only_following: bool) -> Result<(), Failed> {
        let fs_group = crate::pod::spec(context.pod).security_context.as_ref().and_then(|context| context.fs_group);
        for (name, volume) in &self.volumes {
            if only_following && !volume.follows() {
                continue;
            }
            let directory =
                self.directory.join("volumes").join(format!("kubernetes.io~{}", volume.plugin())).join(name);
            let result = volume.set_up(&directory, context).await;
            let path = result.map_err(|source| Failed { name: name.clone(), source })?;
            if let Some(group) = fs_group.filter(|_| volume.plugin() != "host-path") {
                atomic::own(&path, group).map_err(|source| Failed { name: name.clone(), source })?;
            }
            self.paths.insert(name.clone(), path);
        }
        Ok(())
    }
}

pub fn pod_directory(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// Unmounts and removes everything of a pod below the root directory. Works without knowing the pod's spec, for pods that are gone.
pub fn remove_pod(root: &Path, uid: &str) -> Result<(), Error> {
    let directory = pod_directory(root, uid);
    if !directory.exists() {
        return Ok(());
    }
    mounts::unmount_below(&directory)?;
    std::fs::remove_dir_all(&directory).map_err(Error::io(&directory))
}
