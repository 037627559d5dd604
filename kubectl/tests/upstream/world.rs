//! A real apiserver on a real etcd with objects in it, and two kubectls that look at them: ours, and the original.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apimachinery::Schema;
use apimachinery::codec::yaml;
use e2e::ControlPlane;
use e2e::control_plane::binary;
use e2e::kubectl::foreign_program;
use kube::Client;
use regex::Regex;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::files;

const OBJECTS: &str = include_str!("objects.yaml");
/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The exit code of a command that took longer.
pub const LATE: i32 = 124;

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A kubectl with a home of its own, for its cache.
struct Program {
    path: PathBuf,
    home: PathBuf,
}

pub struct World {
    ours: Program,
    /// The original and its version, where it is new enough to be compared with.
    original: Option<(Program, String)>,
    pub client: Client,
    runtime: Handle,
    // The last to go.
    pub plane: ControlPlane,
}

impl World {
    pub async fn start() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let client = plane.client().await?;
        fill(&client).await?;
        let program = |name: &str, path: PathBuf| -> Result<Program> {
            let home = plane.dir().join(name);
            std::fs::create_dir_all(&home)?;
            // It tells its own name, whatever file it is in.
            let called = home.join("kubectl");
            std::os::unix::fs::symlink(path, &called)?;
            Ok(Program { path: called, home })
        };
        let (ours, original) =
            (program("ours", binary("kubectl")?)?, program("original", newest_beside(foreign_program()?)?)?);
        let mut world = Self { ours, original: None, client, runtime: Handle::current(), plane };
        let version = world.kubectl(&original, "default")?.version()?;
        world.original = (minor(&version) >= super::OLDEST).then_some((original, version));
        Ok(world)
    }

    /// Whether the original is new enough to be compared with.
    pub fn compares(&self) -> bool {
        self.original.is_some()
    }

    /// The apiserver's port, which its objects tell.
    pub fn port(&self) -> String {
        self.plane.server().rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// Both kubectls, each in a namespace.
    pub fn pair(&self, ours: &str, originals: &str) -> Result<Pair> {
        let original = self.original.as_ref().map(|(program, version)| (program, version.clone()));
        let original = match original {
            Some((program, version)) => Some((self.kubectl(program, originals)?, version)),
            None => None,
        };
        Ok(Pair { ours: self.kubectl(&self.ours, ours)?, original })
    }

    /// A kubectl in a namespace, which is made where it is not there, with a kubeconfig and files of its own.
    fn kubectl(&self, program: &Program, namespace: &str) -> Result<Kubectl> {
        if namespace != "default" {
            tokio::task::block_in_place(|| self.runtime.block_on(make_namespace(&self.client, namespace)))?;
        }
        let files = program.home.join(namespace);
        std::fs::create_dir_all(&files)?;
        let text = std::fs::read_to_string(self.plane.kubeconfig())?;
        let mut kubeconfig = yaml::decode(text.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
        kubeconfig["contexts"][0]["context"]["namespace"] = namespace.into();
        let own = files.join("kubeconfig");
        std::fs::write(&own, kubeconfig.to_string())?;
        for (name, text) in files::FILES {
            std::fs::write(files.join(name), text.replace("NAMESPACE", namespace))?;
        }
        let (path, home) = (program.path.clone(), program.home.clone());
        let (namespace, identifier) = (namespace.to_owned(), Regex::new(r"\b[0-9a-f]{64}\b")?);
        Ok(Kubectl { program: path, home, files, kubeconfig: own, namespace, identifier })
    }
}

/// A kubectl that only chooses another by the server's version has those others beside it, as `kubectl.1.33`, and none of
/// them for a server as new as this: the newest is meant.
fn newest_beside(program: PathBuf) -> Result<PathBuf> {
    let program = program.canonicalize().with_context(|| format!("find {}", program.display()))?;
    let mut newest = None;
    for entry in program.parent().context("a program is in a folder")?.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let minor: Option<u32> = name.strip_prefix("kubectl.1.").and_then(|minor| minor.parse().ok());
        newest = newest.max(minor.map(|minor| (minor, path)));
    }
    Ok(newest.map_or(program, |(_, path)| path))
}

/// `v1.33.1` is 33.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Our kubectl, and the original with its version where it is compared with.
pub struct Pair {
    pub ours: Kubectl,
    pub original: Option<(Kubectl, String)>,
}

impl Pair {
    /// Whether both look at the same objects.
    pub fn same_objects(&self) -> bool {
        self.original.as_ref().is_none_or(|(original, _)| original.namespace == self.ours.namespace)
    }
}

/// One kubectl in a namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
    /// The folder that commands run in.
    files: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    /// What the runtime gives each container and each command in one.
    identifier: Regex,
}

impl Kubectl {
    /// The version of the program that talks to this server, which a dispatching kubectl chooses by it.
    fn version(&self) -> Result<String> {
        let outcome = self.run(&words("version -o json"))?;
        let version: Value = serde_json::from_str(&outcome.out).with_context(|| format!("{outcome:?}"))?;
        Ok(version["clientVersion"]["gitVersion"].as_str().context("no version")?.to_owned())
    }

    pub fn run(&self, words: &[String]) -> Result<Outcome> {
        self.start(words)?.wait()
    }

    /// Starts a command without waiting for it.
    pub fn start(&self, words: &[String]) -> Result<Running> {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string());
        let child = self.prepare(command.arg(&self.program), words).spawn();
        let child = child.with_context(|| format!("start {}", self.program.display()))?;
        Ok(Running { child, kubectl: self.clone() })
    }

    /// The command itself, which runs until it ends or is ended.
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        self.prepare(&mut command, words);
        command
    }

    fn prepare<'a>(&self, command: &'a mut Command, words: &[String]) -> &'a mut Command {
        let words = words.iter().map(|word| word.replace("NAMESPACE", &self.namespace));
        let command = command.args(words).current_dir(&self.files).env("HOME", &self.home);
        let command = command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped())
    }

    /// A text without what differs between the two kubectls.
    pub fn without_own(&self, text: &str) -> String {
        let text = self.identifier.replace_all(text, "IDENTIFIER");
        let text = text.replace(&self.kubeconfig.display().to_string(), "KUBECONFIG");
        if self.namespace == "default" { text } else { text.replace(&self.namespace, "NAMESPACE") }
    }
}

/// A command that runs.
pub struct Running {
    child: std::process::Child,
    kubectl: Kubectl,
}

impl Running {
    pub fn wait(self) -> Result<Outcome> {
        let output = self.child.wait_with_output()?;
        let text = |bytes: Vec<u8>| -> Result<String> { Ok(self.kubectl.without_own(&String::from_utf8(bytes)?)) };
        let code = output.status.code().context("ended by a signal")?;
        let mut err = text(output.stderr)?;
        if code == LATE {
            err.push_str(&format!("(did not end within {} s)\n", PATIENCE.as_secs()));
        }
        Ok(Outcome { code, out: text(output.stdout)?, err })
    }
}

/// The words of a command line; single quotes keep blanks.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Puts the objects of the file, and the namespaces for changes, on the server.
async fn fill(client: &Client) -> Result<()> {
    let mut made: Vec<Value> = Vec::new();
    for document in yaml::documents(OBJECTS) {
        let mut object = yaml::decode(document.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
        fill_uids(&mut object, &made)?;
        made.push(put(client, &object).await?);
    }
    Ok(())
}

/// A namespace with the service account that pods in it need.
async fn make_namespace(client: &Client, name: &str) -> Result<()> {
    put(client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
    let account = json!({"name": "default", "namespace": name});
    put(client, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})).await?;
    Ok(())
}

fn fill_uids(object: &mut Value, made: &[Value]) -> Result<()> {
    for reference in ["/metadata/ownerReferences/0", "/involvedObject"] {
        let Some(reference) = object.pointer_mut(reference).filter(|reference| reference["uid"] == "FILL") else {
            continue;
        };
        let same =
            |object: &&Value| object["kind"] == reference["kind"] && object["metadata"]["name"] == reference["name"];
        let found = made.iter().find(same).with_context(|| format!("no object for {reference}"))?;
        reference["uid"] = found["metadata"]["uid"].clone();
    }
    Ok(())
}

/// Makes an object, and then its status.
pub async fn put(client: &Client, object: &Value) -> Result<Value> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let (group, plain) = version.split_once('/').unwrap_or(("", &version));
    let resource = Schema::builtin().resource_for_kind(group, plain, &kind).with_context(|| format!("no {kind}"))?;
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let place = if resource.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
    let collection = format!("{root}/{version}{place}/{}", resource.resource);
    let mut made = send(client, "POST", &collection, object).await?;
    if !object["status"].is_null() {
        made["status"] = object["status"].clone();
        let path = format!("{collection}/{}/status", made["metadata"]["name"].as_str().unwrap_or_default());
        made = send(client, "PUT", &path, &made).await?;
    }
    made["kind"] = kind.into();
    Ok(made)
}

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", "application/json")
        .body(body.to_string().into_bytes())?;
    match client.request(request).await {
        Ok(answer) => Ok(answer),
        Err(error) => bail!("{method} {path}: {error}: {body}"),
    }
}
