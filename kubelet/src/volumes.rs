//! Volumes of pods: each kind is one file with one [`Volume`]; this module mounts, refreshes and removes all of a pod's.

mod access;
mod atomic;
mod config;
mod empty_dir;
mod host_path;
pub mod mounts;
mod projected;
mod sub_path;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
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
    pub now: Timestamp,
}

/// One kind of volume.
#[async_trait]
pub trait Volume: Send + Sync {
    /// Makes the volume usable, or brings its content up to date; done again it changes nothing. Gives the path on the host.
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error>;
    /// Whether the content is the kubelet's: it follows objects of the API, and containers may only read it.
    fn is_content(&self) -> bool {
        false
    }
    /// When the content has to be renewed though nothing changed.
    fn renewal(&self) -> Option<Timestamp> {
        None
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
    volumes: Vec<(String, Box<dyn Volume>)>,
    made: BTreeMap<String, Made>,
    ready: bool,
}

/// A volume that can be mounted.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub path: PathBuf,
    pub read_only: bool,
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
            volumes.push((spec.name.clone(), made));
        }
        let directory = pod_directory(root, crate::pod::uid(pod));
        Ok(Self { directory, volumes, made: BTreeMap::new(), ready: false })
    }

    /// The volumes that can be mounted, by name.
    pub fn made(&self) -> &BTreeMap<String, Made> {
        &self.made
    }

    /// When a volume's content has to be renewed though nothing changed.
    pub fn renewal(&self) -> Option<Timestamp> {
        self.volumes.iter().filter_map(|(_, volume)| volume.renewal()).min()
    }

    /// Makes all volumes usable, once.
    pub async fn set_up(&mut self, context: Context<'_>) -> Result<(), Failed> {
        if !self.ready {
            self.each(context, |_| true).await?;
            self.ready = true;
        }
        Ok(())
    }

    /// Brings the volumes whose content is the kubelet's up to date.
    pub async fn refresh(&mut self, context: Context<'_>) -> Result<(), Failed> {
        if self.ready { self.each(context, |volume| volume.is_content()).await } else { self.set_up(context).await }
    }

    async fn each(&mut self, context: Context<'_>, wanted: fn(&dyn Volume) -> bool) -> Result<(), Failed> {
        let root = self.directory.join("volumes");
        let one = async |name: &String, volume: &dyn Volume| {
            let directory = root.join(format!("kubernetes.io~{}", volume.plugin())).join(name);
            let path = volume.set_up(&directory, context).await;
            let path = path.map_err(|source| Failed { name: name.clone(), source })?;
            Ok((name.clone(), Made { path, read_only: volume.is_content() }))
        };
        let chosen = self.volumes.iter().filter(|(_, volume)| wanted(volume.as_ref()));
        let all = futures::future::join_all(chosen.map(|(name, volume)| one(name, volume.as_ref()))).await;
        let mut failure = None;
        for outcome in all {
            match outcome {
                Ok((name, made)) => drop(self.made.insert(name, made)),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

pub fn pod_directory(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// Where an emptyDir of a pod is.
pub fn empty_dir_of(root: &Path, uid: &str, name: &str) -> PathBuf {
    pod_directory(root, uid).join("volumes/kubernetes.io~empty-dir").join(name)
}

/// Unmounts and removes everything of a pod below the root directory. Works without knowing the pod's spec, for pods that are gone.
pub fn remove_pod(root: &Path, uid: &str) -> Result<(), Error> {
    let directory = pod_directory(root, uid);
    if !directory.exists() {
        return Ok(());
    }
    // volumes/<plugin>/<name> and volume-subpaths/<volume>/<container>/<index>.
    mounts::unmount_below(&directory.join(sub_path::DIRECTORY), 3)?;
    mounts::unmount_below(&directory.join("volumes"), 2)?;
    std::fs::remove_dir_all(&directory).map_err(Error::io(&directory))
}
