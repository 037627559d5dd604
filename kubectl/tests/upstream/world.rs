//! A real apiserver on a real etcd with objects in it, and two kubectls that look at them: ours, and the original.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use apimachinery::Schema;
use apimachinery::codec::yaml;
use e2e::ControlPlane;
use e2e::control_plane::binary;
use kube::Client;
use serde_json::{Value, json};

const OBJECTS: &str = include_str!("objects.yaml");
const NAMESPACES: [&str; 2] = ["space-1", "space-2"];
/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// One kubectl with a home and a namespace of its own.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
    /// The folder that commands run in.
    files: PathBuf,
    pub namespace: String,
}

pub struct World {
    pub ours: Kubectl,
    /// The original, where it is new enough to be compared with.
    pub original: Option<(Kubectl, String)>,
    // The last to go.
    _plane: ControlPlane,
}

impl World {
    pub async fn start() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let client = plane.client().await?;
        fill(&client).await?;
        let (dir, kubeconfig) = (plane.dir().to_owned(), plane.kubeconfig());
        let files = dir.join("files");
        std::fs::create_dir_all(&files)?;
        let kubectl = |name: &str, program: PathBuf, namespace: &str| -> Result<Kubectl> {
            let home = dir.join(name);
            std::fs::create_dir_all(home.join(".kube"))?;
            std::fs::copy(&kubeconfig, home.join(".kube/config"))?;
            Ok(Kubectl { program, home, files: files.clone(), namespace: namespace.to_owned() })
        };
        let ours = kubectl("ours", binary("kubectl")?, NAMESPACES[0])?;
        let program = std::env::var_os("CORTEN_FOREIGN_KUBECTL")
            .context("CORTEN_FOREIGN_KUBECTL names no kubectl: run hack/test, or apt-get install kubernetes-client")?;
        let original = kubectl("original", program.into(), NAMESPACES[1])?;
        let version = original.server_seen_by()?;
        let new_enough = minor(&version) >= super::OLDEST;
        let world = Self { ours, original: new_enough.then_some((original, version)), _plane: plane };
        Ok(world)
    }

    /// A file in the folder that commands run in.
    pub fn file(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.ours.files.join(name), text)?)
    }
}

/// `v1.33.1` is 33.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Kubectl {
    /// The version of the program that talks to this server, which a dispatching kubectl chooses by it.
    fn server_seen_by(&self) -> Result<String> {
        let outcome = self.run(&words("version -o json"), true)?;
        let version: Value = serde_json::from_str(&outcome.out).with_context(|| format!("{outcome:?}"))?;
        Ok(version["clientVersion"]["gitVersion"].as_str().context("no version")?.to_owned())
    }

    /// Runs a command, in the namespace `default` or in the kubectl's own.
    pub fn run(&self, words: &[String], in_default: bool) -> Result<Outcome> {
        self.start(words, in_default)?.wait()
    }

    /// Starts a command without waiting for it.
    pub fn start(&self, words: &[String], in_default: bool) -> Result<Running> {
        let config = self.home.join(".kube/config");
        let text = std::fs::read_to_string(&config)?;
        let mut kubeconfig = yaml::decode(text.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
        let namespace = if in_default { "default" } else { &self.namespace };
        kubeconfig["contexts"][0]["context"]["namespace"] = namespace.into();
        let chosen = self.home.join(format!("{namespace}.conf"));
        std::fs::write(&chosen, kubeconfig.to_string())?;
        let child = Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .arg(&self.program)
            .args(words)
            .current_dir(&self.files)
            .env("HOME", &self.home)
            .env("KUBECONFIG", &chosen)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let own = [(chosen.display().to_string(), "KUBECONFIG"), (self.namespace.clone(), "NAMESPACE")];
        Ok(Running { child, own })
    }
}

/// A command that runs.
pub struct Running {
    child: std::process::Child,
    /// What differs between the two kubectls, with what is said instead.
    own: [(String, &'static str); 2],
}

impl Running {
    pub fn wait(self) -> Result<Outcome> {
        let output = self.child.wait_with_output()?;
        let text = |bytes: Vec<u8>| -> Result<String> {
            let text = String::from_utf8(bytes)?;
            Ok(self.own.iter().fold(text, |text, (own, instead)| text.replace(own, instead)))
        };
        let code = output.status.code().context("ended by a signal")?;
        ensure!(code != 124, "did not end in time");
        Ok(Outcome { code, out: text(output.stdout)?, err: text(output.stderr)? })
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
    for namespace in NAMESPACES {
        put(client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
        put(client, &account).await?;
    }
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
async fn put(client: &Client, object: &Value) -> Result<Value> {
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
