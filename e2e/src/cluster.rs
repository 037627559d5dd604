//! The one real cluster of the end-to-end tests: `hack/cluster up --nodes 2`, made by the first test that wants it, and
//! taken down by the last.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::Client;
use serde_json::Value;

use crate::{
    control_plane::{binary, client_from},
    kubectl::Kubectl,
};

pub const NODES: usize = 2;
/// What all samples and tests run.
pub const IMAGE: &str = concat!("localhost/corten/toolbox:v1.36.2-corten.", env!("CARGO_PKG_VERSION"));

/// A handle on the cluster. Dropping it leaves the cluster as it is.
pub struct Cluster {
    dir: PathBuf,
}

/// A component as `hack/cluster status --json` lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Component {
    pub name: String,
    pub node: String,
    pub pid: i32,
    pub ready: bool,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").components().collect()
}

/// Runs `hack/cluster` with these words; what it printed, or an error with all it said.
fn hack_cluster(dir: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new(repository().join("hack/cluster"))
        .args(words)
        .arg("--dir")
        .arg(dir)
        .output()
        .context("start hack/cluster")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("hack/cluster {words:?}: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

impl Cluster {
    /// The folder of the cluster: `CORTEN_E2E_DIR`, or one below target.
    pub fn dir() -> PathBuf {
        let given = std::env::var_os("CORTEN_E2E_DIR").map(PathBuf::from);
        given.unwrap_or_else(|| repository().join("target/e2e-cluster"))
    }

    /// The shared cluster; it is made when it is not there.
    pub fn shared() -> Result<Self> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = Self::dir();
        let (mark, bin) = (dir.join("nodes/.up"), binary("kubelet")?);
        if !mark.exists() {
            let bin = bin.parent().context("a binary is in a folder")?.display().to_string();
            let text = hack_cluster(&dir, &["up", "--nodes", &NODES.to_string(), "--bin-dir", &bin])?;
            println!("{text}");
            std::fs::write(&mark, text)?;
        }
        Ok(Cluster { dir })
    }

    /// Takes the cluster down.
    pub fn down(self) -> Result<String> {
        std::fs::remove_file(self.dir.join("nodes/.up"))?;
        hack_cluster(&self.dir, &["down"])
    }

    pub fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(hack_cluster(&self.dir, &["kubeconfig"])?.trim().into())
    }

    pub async fn client(&self) -> Result<Client> {
        client_from(&self.kubeconfig()?).await
    }

    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::ours(self.kubeconfig()?)
    }

    pub fn foreign_kubectl(&self) -> Result<Kubectl> {
        Kubectl::foreign(self.kubeconfig()?)
    }

    /// The address of a node (1, 2, …).
    pub fn node_address(&self, number: usize) -> String {
        format!("10.213.0.{number}")
    }

    pub fn components(&self) -> Result<Vec<Component>> {
        let list: Vec<Value> = serde_json::from_str(&hack_cluster(&self.dir, &["status", "--json"])?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.iter()
            .map(|item| {
                Ok(Component {
                    name: text(&item["component"]),
                    node: text(&item["node"]),
                    pid: i32::try_from(item["pid"].as_i64().context("pid")?)?,
                    ready: item["ready"] == true,
                })
            })
            .collect()
    }

    /// One component that runs.
    pub fn component(&self, name: &str, node: &str) -> Result<Component> {
        let all = self.components()?;
        let found = all.iter().find(|component| component.name == name && component.node == node && component.pid > 0);
        found.cloned().with_context(|| format!("{name} does not run on {node}: {all:#?}"))
    }

    /// Makes the cluster whole again after a process was killed that nothing else restarts.
    pub fn repair(&self) -> Result<()> {
        let bin = binary("kubelet")?;
        let bin = bin.parent().context("a binary is in a folder")?.display().to_string();
        hack_cluster(&self.dir, &["up", "--nodes", &NODES.to_string(), "--bin-dir", &bin])?;
        Ok(())
    }
}

/// Asks until the answer is yes; the time that took. An error with the last answer otherwise.
pub fn eventually(what: &str, patience: Duration, mut question: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let answer = question();
        if matches!(answer, Ok(true)) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > patience {
            match answer {
                Err(error) => bail!("{what}: not within {patience:?}: {error:#}"),
                Ok(_) => bail!("{what}: not within {patience:?}"),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
