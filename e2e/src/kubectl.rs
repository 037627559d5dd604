//! kubectl as a program: ours, and others that know only Kubernetes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::control_plane::binary;
use crate::process::Process;

/// A recent kubectl that is not ours: `CORTEN_FOREIGN_KUBECTL`, which hack/test sets.
pub fn foreign_program() -> Result<PathBuf> {
    given("CORTEN_FOREIGN_KUBECTL")
}

fn given(variable: &str) -> Result<PathBuf> {
    let program = std::env::var_os(variable);
    Ok(program.with_context(|| format!("{variable} names no kubectl: hack/test sets it"))?.into())
}

/// A kubectl with its kubeconfig and namespace.
#[derive(Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Kubectl {
    /// What it keeps of a server is beside the kubeconfig.
    fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig, namespace: "default".into() }
    }

    pub fn ours(kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self::new(binary("kubectl")?, kubeconfig))
    }

    /// See [`foreign_program`].
    pub fn foreign(kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self::new(foreign_program()?, kubeconfig))
    }

    /// The one of Debian 12, which is from before server-side validation: `CORTEN_OLD_KUBECTL`, which hack/test sets.
    pub fn old(kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self::new(given("CORTEN_OLD_KUBECTL")?, kubeconfig))
    }

    /// The same, in a new namespace.
    pub fn in_new_namespace(mut self, namespace: &str) -> Result<Self> {
        self.run(&["create", "namespace", namespace]).or_else(|_| {
            // Our kubectl makes objects from files only.
            self.apply(
                &serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
            )
        })?;
        self.namespace = namespace.to_owned();
        Ok(self)
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--namespace").arg(&self.namespace).args(words);
        command.env("HOME", self.kubeconfig.with_extension("home"));
        command
    }

    /// What it prints; an error when it fails.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        said(words, self.command(words).stdin(Stdio::null()).output()?)
    }

    /// Its exit code.
    pub fn code(&self, words: &[&str]) -> Result<i32> {
        let output = self.command(words).stdin(Stdio::null()).output()?;
        output.status.code().context("kubectl ended by a signal")
    }

    /// With text on its standard input.
    pub fn run_with(&self, words: &[&str], input: &str) -> Result<String> {
        let mut child =
            self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
        said(words, child.wait_with_output()?)
    }

    /// Applies one object.
    pub fn apply(&self, object: &Value) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], &object.to_string())
    }

    /// Starts it, with its output in a file.
    pub fn start(&self, words: &[&str], log: &Path) -> Result<Process> {
        Process::start("kubectl", &mut self.command(words), log)
    }

    /// Edits by a program instead of a person.
    pub fn edit(&self, words: &[&str], editor: &str) -> Result<String> {
        let output =
            self.command(&[&["edit"], words].concat()).env("KUBE_EDITOR", editor).stdin(Stdio::null()).output()?;
        said(words, output)
    }

    /// One field of one object, as text.
    pub fn field(&self, object: &str, path: &str) -> Result<String> {
        self.run(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// The names of the objects that a selector chooses.
    pub fn names(&self, resource: &str, selector: &str) -> Result<Vec<String>> {
        let text = self.run(&["get", resource, "-l", selector, "-o", "name"])?;
        Ok(text.lines().map(|line| line.rsplit('/').next().unwrap_or(line).to_owned()).collect())
    }

    /// Runs a command in a pod; what it printed.
    pub fn exec(&self, pod: &str, words: &[&str]) -> Result<String> {
        self.run(&[&["exec", pod, "--"], words].concat())
    }
}

fn said(words: &[&str], output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("kubectl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
