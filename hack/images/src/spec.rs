//! The description of the images: `hack/images/images.yaml`.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub images: Vec<Image>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    pub name: String,
    /// Programs of ours, put into /usr/local/bin.
    pub binaries: Vec<String>,
    /// Programs of this machine, found on its path, put where they are there.
    pub programs: Vec<String>,
    /// Files and folders of this machine, put where they are there.
    pub files: Vec<PathBuf>,
    /// Whether busybox and links for its commands are in /bin.
    pub busybox: bool,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `UID[:GID]`; root if empty.
    pub user: String,
}

pub fn parse(text: &str) -> anyhow::Result<Spec> {
    Ok(serde_saphyr::from_str(text)?)
}
