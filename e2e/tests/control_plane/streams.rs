//! Exec, attach, port-forward and logs, from the client to the container: etcd, kube-apiserver, kubelet and containerd are real, and
//! so are the clients: two kubectls, one of them not ours, in the protocols they speak, and the Python client.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    ControlPlane, Node,
    control_plane::{binary, client_from},
    http_client::{Answer, send, send_json},
    kubectl::foreign_program,
    node::{ADDRESS, IMAGE, NAME, PORT, eventually, isolated},
    process::Process,
};
use kube::{Api, Client, api::AttachParams, api::TerminalSize};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const BOX: &str = "echo hello from box; mkdir -p /www; echo index > /www/index.html; \
    head -c 2000000 /dev/urandom > /www/big; exec httpd -f -p 8080 -h /www";
const LISTENER: &str = "while read line; do echo heard $line; done; echo done";

/// The world of one test.
struct World {
    node: Node,
    plane: ControlPlane,
    client: Client,
}

impl World {
    async fn start() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let client = plane.client().await?;
        let account = json!({ "metadata": { "name": "default" } });
        create(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await?;
        // kubeadm gives this right to the API server's client certificate.
        let binding = json!({
            "metadata": { "name": "kubeadm:cluster-admins" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins" }],
        });
        create(&client, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await?;
        let node = Node::join(&plane).await?;
        Ok(World { node, plane, client })
    }

    /// A pod with one container, `main`.
    async fn pod(&mut self, name: &str, script: &str, more: Value) -> Result<()> {
        let mut container = json!({ "name": "main", "image": IMAGE, "command": ["sh", "-c", script] });
        container.as_object_mut().context("an object")?.extend(more.as_object().cloned().unwrap_or_default());
        let spec = json!({ "restartPolicy": "Never", "containers": [container] });
        self.node.run(&self.client, json!({ "metadata": { "name": name }, "spec": spec })).await?;
        Ok(())
    }

    async fn with_box() -> Result<Self> {
        let mut world = World::start().await?;
        let probe =
            json!({ "readinessProbe": { "httpGet": { "path": "/index.html", "port": 8080 }, "periodSeconds": 1 } });
        world.pod("box", BOX, probe).await?;
        Ok(world)
    }

    fn kubectl(&self, kind: Kind, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(kind.program()?);
        command.arg("--kubeconfig").arg(self.plane.kubeconfig()).args(words);
        for name in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            command.env(name, (kind != Kind::Spdy).to_string());
        }
        command.current_dir(self.plane.dir());
        Ok(command)
    }

    /// Runs kubectl with this on its standard input.
    fn run(&self, kind: Kind, words: &[&str], input: &[u8]) -> Result<Said> {
        let mut command = self.kubectl(kind, words)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let input = input.to_vec();
        // kubectl may end without having read everything.
        let writer = std::thread::spawn(move || stdin.write_all(&input).err());
        let output = child.wait_with_output()?;
        writer.join().map_err(|_| anyhow::anyhow!("writing panicked"))?;
        Ok(Said {
            code: output.status.code().context("kubectl ended by a signal")?,
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// A kubectl and the protocol that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    WebSocket,
    Spdy,
}

const FOREIGN: [Kind; 2] = [Kind::WebSocket, Kind::Spdy];
const ALL: [Kind; 3] = [Kind::WebSocket, Kind::Spdy, Kind::Ours];

impl Kind {
    fn program(self) -> Result<std::path::PathBuf> {
        if self == Kind::Ours {
            return binary("kubectl");
        }
        foreign_program()
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

async fn create(client: &Client, path: &str, object: &Value) -> Result<Value> {
    let answer = send_json(client, "POST", path, object).await?;
    ensure!(answer.code == 201, "{path}: {answer:?}");
    Ok(answer.json())
}

/// Bytes that no compression makes smaller, and that repeat nowhere.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn commands_run_in_containers_for_every_client() -> Result<()> {
    isolated(|| async {
        let mut world = World::with_box().await?;
        for kind in ALL {
            commands(&world, kind)?;
        }
        for kind in FOREIGN {
            copies(&world, kind)?;
            attaches(&mut world, kind).await?;
        }
        terminal_follows_its_size(&world).await?;
        python(&world)?;
        for kind in ALL {
            gone_clients_leave_nothing(&mut world, kind).await?;
        }
        Ok(())
    })
}

/// Both outputs, the exit code, and input of any size with its end.
fn commands(world: &World, kind: Kind) -> Result<()> {
    let said = world.run(kind, &["exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 3"], b"")?;
    assert_eq!((said.code, said.text().as_str()), (3, "out\n"), "{kind:?}: {said:?}");
    assert!(said.err.starts_with("err\n"), "{kind:?}: {said:?}");
    assert!(said.err.contains("command terminated with exit code 3"), "{kind:?}: {said:?}");

    let input = noise(5_000_000);
    let said = world.run(kind, &["exec", "-i", "box", "--", "cat"], &input)?;
    assert!(said.code == 0 && said.out == input, "{kind:?}: {} bytes came back: {}", said.out.len(), said.err);
    let said =
        world.run(kind, &["exec", "-i", "box", "--", "sh", "-c", "read first; echo $first"], &input[..10_000])?;
    assert_eq!(said.code, 0, "{kind:?}: input that is not read hinders nothing: {}", said.err);
    let said = world.run(kind, &["exec", "box", "--", "head", "-c", "20000000", "/dev/zero"], b"")?;
    assert_eq!((said.code, said.out.len()), (0, 20_000_000), "{kind:?}: {}", said.err);
    let said = world.run(kind, &["exec", "box", "--", "/no/such/command"], b"")?;
    assert_ne!(said.code, 0, "{kind:?}: {said:?}");
    let said = world.run(kind, &["exec", "box", "-c", "other", "--", "true"], b"")?;
    assert!(said.code != 0 && said.err.contains("container other"), "{kind:?}: {said:?}");
    Ok(())
}

fn copies(world: &World, kind: Kind) -> Result<()> {
    let dir = world.plane.dir();
    let data = noise(3_000_000);
    fs::write(dir.join("up"), &data)?;
    let said = world.run(kind, &["cp", "up", "box:/tmp/copied"], b"")?;
    assert_eq!(said.code, 0, "{kind:?}: {said:?}");
    let said = world.run(kind, &["cp", "box:/tmp/copied", "down"], b"")?;
    assert_eq!(said.code, 0, "{kind:?}: {said:?}");
    assert!(fs::read(dir.join("down"))? == data, "{kind:?}: the copy is another");
    Ok(())
}

async fn attaches(world: &mut World, kind: Kind) -> Result<()> {
    let pod = format!("listener-{kind:?}").to_lowercase();
    world.pod(&pod, LISTENER, json!({ "stdin": true, "stdinOnce": true })).await?;
    let said = world.run(kind, &["attach", "-i", &pod], b"one\ntwo\n")?;
    assert_eq!((said.code, said.text().as_str()), (0, "heard one\nheard two\ndone\n"), "{kind:?}: {said:?}");
    Ok(())
}

async fn terminal_follows_its_size(world: &World) -> Result<()> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(world.client.clone());
    let script =
        "until [ \"$(stty size 2>/dev/null)\" = '40 100' ]; do sleep 0.05; done; echo resized; tty -s && exit 5";
    let params = AttachParams::interactive_tty();
    let mut session = pods.exec("box", ["sh", "-c", script], &params).await?;
    let mut sizes = session.terminal_size().context("a terminal has a size")?;
    let status = session.take_status().context("a status")?;
    futures::SinkExt::send(&mut sizes, TerminalSize { width: 100, height: 40 }).await?;
    let mut said = String::new();
    session.stdout().context("stdout")?.read_to_string(&mut said).await?;
    assert_eq!(said, "resized\r\n");
    let status = status.await.context("a status")?;
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    assert!(causes.iter().any(|cause| cause.message.as_deref() == Some("5")), "{causes:?}");
    Ok(())
}

fn python(world: &World) -> Result<()> {
    let python = std::env::var_os("CORTEN_PYTHON")
        .context("CORTEN_PYTHON names no python with the package kubernetes: run hack/test, which makes one")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams.py");
    let output = Command::new(python).arg(script).env("KUBECONFIG", world.plane.kubeconfig()).output()?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(said[0].trim() == "all good", "{}{}", said[0], said[1]);
    Ok(())
}

/// A client that is killed takes everything with it: the connections to the kubelet and to containerd, and what read its input.
async fn gone_clients_leave_nothing(world: &mut World, kind: Kind) -> Result<()> {
    let streaming = listening_port(world.node.containerd()?.pid())?;
    let connections = || -> Result<usize> { Ok(connections_to(PORT)? + connections_to(streaming)?) };
    eventually("what was before is gone", async || Ok((connections()? == 0).then_some(()))).await?;
    for (command, words) in
        [("cat", &["exec", "-i", "box", "--", "cat"][..]), ("sleep 1000", &["exec", "box", "--", "sleep", "1000"])]
    {
        let running = || -> Result<bool> {
            let list = world.run(Kind::Spdy, &["exec", "box", "--", "ps", "-o", "args"], b"")?;
            Ok(list.text().lines().any(|line| line.trim() == command))
        };
        let mut kubectl = world.kubectl(kind, words)?;
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        eventually(&format!("{command} runs"), async || Ok(running()?.then_some(()))).await?;
        child.kill()?;
        child.wait()?;
        eventually("no connection is left", async || Ok((connections()? == 0).then_some(()))).await?;
        // What reads no input does not hear of it: Kubernetes leaves such a command to its container.
        if command == "cat" {
            eventually("what read the input has ended", async || Ok((!running()?).then_some(()))).await?;
        } else {
            world.run(Kind::Spdy, &["exec", "box", "--", "pkill", "sleep"], b"")?;
        }
    }
    Ok(())
}

/// The TCP port on which a process listens.
fn listening_port(pid: i32) -> Result<u16> {
    let mut sockets = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        if let Ok(target) = fs::read_link(entry?.path()) {
            sockets.insert(target.display().to_string());
        }
    }
    let listens = |socket: &Socket| socket.state == LISTEN && sockets.contains(&format!("socket:[{}]", socket.inode));
    let found = sockets_of_this_network()?.into_iter().find(listens);
    Ok(found.context("the process does not listen")?.local)
}

fn connections_to(port: u16) -> Result<usize> {
    let open = |socket: &Socket| socket.remote == port && socket.state == ESTABLISHED;
    Ok(sockets_of_this_network()?.iter().filter(|socket| open(socket)).count())
}

const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

struct Socket {
    local: u16,
    remote: u16,
    state: String,
    inode: String,
}

/// TCP sockets as the kernel lists them (proc(5)).
fn sockets_of_this_network() -> Result<Vec<Socket>> {
    let mut all = Vec::new();
    for name in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{name}"))?;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = |field: &str| -> Result<u16> {
                Ok(u16::from_str_radix(field.rsplit(':').next().unwrap_or_default(), 16)?)
            };
            let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else { continue };
            all.push(Socket { local: port(local)?, remote: port(remote)?, state: state.into(), inode: inode.into() });
        }
    }
    Ok(all)
}

#[test]
fn ports_are_forwarded_for_every_client() -> Result<()> {
    isolated(|| async {
        let world = World::with_box().await?;
        let served = world.run(Kind::Spdy, &["exec", "box", "--", "cat", "/www/big"], b"")?.out;
        for kind in ALL {
            let log = world.plane.dir().join(format!("forward-{kind:?}.log"));
            let mut command = world.kubectl(kind, &["port-forward", "pod/box", ":8080", ":9"])?;
            let mut forwarding = Process::start("kubectl", &mut command, &log)?;
            let [web, closed] = forwarded(&mut forwarding, &log).await?;
            let pages = futures::future::try_join_all((0..20).map(|_| fetch(web, "/index.html"))).await?;
            assert!(pages.iter().all(|page| page == b"index\n"), "{kind:?}: {pages:?}");
            let all = futures::future::try_join_all((0..6).map(|_| fetch(web, "/big"))).await?;
            assert!(all.iter().all(|body| *body == served), "{kind:?}: side by side, every byte arrives");
            assert_eq!(fetch(closed, "/").await?, b"", "{kind:?}: nobody listens there");
            if kind == Kind::Ours {
                assert_eq!(fetch(web, "/index.html").await?, b"index\n", "{kind:?}: the other port still works");
            } else {
                eventually("it is told that nobody listens", async || {
                    Ok(fs::read_to_string(&log)?.contains("refused").then_some(()))
                })
                .await
                .with_context(|| format!("{kind:?}: {}", forwarding.tail()))?;
            }
            forwarding.signal(Signal::SIGKILL)?;
            eventually("no connection is left", async || Ok((connections_to(PORT)? == 0).then_some(()))).await?;
        }
        Ok(())
    })
}

/// The local ports of a port-forward, in the order of its arguments.
async fn forwarded(forwarding: &mut Process, log: &Path) -> Result<[u16; 2]> {
    eventually("kubectl forwards", async || {
        forwarding.check()?;
        let text = fs::read_to_string(log)?;
        let port = |remote: &str| {
            let line =
                text.lines().find(|line| line.contains("127.0.0.1:") && line.ends_with(&format!("-> {remote}")))?;
            line.split("127.0.0.1:").nth(1)?.split(' ').next()?.parse().ok()
        };
        Ok(port("8080").zip(port("9")).map(|(web, closed)| [web, closed]))
    })
    .await
}

/// The body of an answer; nothing, where the connection is closed without one.
async fn fetch(port: u16, path: &str) -> Result<Vec<u8>> {
    use tokio::io::AsyncWriteExt;
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let mut answer = Vec::new();
    let exchanged = async {
        connection.write_all(request.as_bytes()).await?;
        connection.read_to_end(&mut answer).await
    };
    if let Err(error) = exchanged.await
        && error.kind() != std::io::ErrorKind::ConnectionReset
    {
        return Err(error.into());
    }
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    Ok(answer.split_off(end))
}

/// Asks for a WebSocket.
async fn upgrade(client: &Client, path: &str, protocol: &str) -> Result<Answer> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    send(client, "GET", path, &headers, "").await
}

#[test]
fn what_cannot_be_served_is_refused_with_a_status() -> Result<()> {
    isolated(|| async {
        let world = World::start().await?;
        refusals(&world).await?;
        rights(&world).await?;
        kubelet_asks_who_and_whether(&world).await
    })
}

async fn refusals(world: &World) -> Result<()> {
    let pods = "/api/v1/namespaces/default/pods";
    let two = json!({ "metadata": { "name": "two" }, "spec": { "automountServiceAccountToken": false, "containers": [
        { "name": "a", "image": IMAGE }, { "name": "b", "image": IMAGE },
    ] } });
    create(&world.client, pods, &two).await?;
    let absent = json!({ "metadata": { "name": "absent" }, "spec": { "nodeName": NAME, "automountServiceAccountToken": false, "containers": [
        { "name": "main", "image": "corten.test/absent:1", "imagePullPolicy": "Never" },
    ] } });
    create(&world.client, pods, &absent).await?;
    eventually("the pod waits for its image", async || {
        let pod = send(&world.client, "GET", &format!("{pods}/absent"), &[], "").await?.json();
        Ok(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().map(drop))
    })
    .await?;
    for (path, protocol, code, reason, message) in [
        ("nobody/exec?command=ls&stdout=1", "v5.channel.k8s.io", 404, "NotFound", "pods \"nobody\" not found"),
        ("two/exec?command=ls&stdout=1", "v5.channel.k8s.io", 400, "BadRequest", "choose one of: [a b]"),
        (
            "two/exec?container=c&command=ls&stdout=1",
            "v5.channel.k8s.io",
            400,
            "BadRequest",
            "container c is not valid",
        ),
        ("two/exec?container=a&command=ls&stdout=1", "v5.channel.k8s.io", 400, "BadRequest", "does not have a host"),
        ("two/portforward", "SPDY/3.1+portforward.k8s.io", 400, "BadRequest", "does not have a host"),
        ("absent/exec?command=ls&stdout=1", "v5.channel.k8s.io", 404, "NotFound", "container not found (\"main\")"),
        ("absent/attach?stdout=1", "v5.channel.k8s.io", 404, "NotFound", "container not found (\"main\")"),
        ("absent/exec?command=ls", "v5.channel.k8s.io", 404, "NotFound", "container not found (\"main\")"),
        ("absent/log", "binary.k8s.io", 400, "BadRequest", "is waiting to start"),
        ("absent/log?tailLines=-1", "binary.k8s.io", 422, "Invalid", "tailLines"),
    ] {
        let answer = upgrade(&world.client, &format!("{pods}/{path}"), protocol).await?;
        let status = answer.json();
        assert_eq!((answer.code, answer.reason().as_str()), (code, reason), "{path}: {status}");
        assert_eq!((status["kind"].as_str(), status["code"].as_u64()), (Some("Status"), Some(code.into())), "{path}");
        assert!(status["message"].as_str().is_some_and(|text| text.contains(message)), "{path}: {status}");
    }
    let plain = send(&world.client, "GET", &format!("{pods}/two/log?container=a"), &[], "").await?;
    assert_eq!(plain.code, 204, "a pod without a node has no log yet");
    let plain = send(&world.client, "GET", &format!("{pods}/absent/log"), &[], "").await?;
    assert_eq!((plain.code, plain.reason().as_str()), (400, "BadRequest"), "{plain:?}");
    let wrong = send(&world.client, "PUT", &format!("{pods}/absent/exec?command=ls"), &[], "").await?;
    assert_eq!((wrong.code, wrong.reason().as_str()), (405, "MethodNotAllowed"));
    Ok(())
}

/// A WebSocket needs the right to get, as every GET, and the right to create, as every stream into a pod.
async fn rights(world: &World) -> Result<()> {
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let path = "/api/v1/namespaces/default/pods/absent";
    for (user, verbs, web_socket, spdy) in
        [("getter", &["get"][..], 403, 403), ("creator", &["create"], 403, 404), ("both", &["get", "create"], 404, 404)]
    {
        let rule =
            json!({ "apiGroups": [""], "resources": ["pods/exec", "pods/attach", "pods/portforward"], "verbs": verbs });
        create(&world.client, &format!("{roles}/roles"), &json!({ "metadata": { "name": user }, "rules": [rule] }))
            .await?;
        let binding = json!({
            "metadata": { "name": user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        });
        create(&world.client, &format!("{roles}/rolebindings"), &binding).await?;
        let client = client_from(&world.plane.kubeconfig_for(user, &[])?).await?;
        for (subresource, protocol) in
            [("exec?command=ls&stdout=1", "v5.channel.k8s.io"), ("attach?stdout=1", "v4.channel.k8s.io")]
        {
            let what = format!("{user} {subresource}");
            let answer = eventually(&what, async || {
                let answer = upgrade(&client, &format!("{path}/{subresource}"), protocol).await?;
                Ok((answer.code == web_socket).then_some(answer))
            })
            .await?;
            if web_socket == 403 {
                assert_eq!(answer.reason(), "Forbidden", "{what}");
                let verb = if user == "getter" { "cannot create resource" } else { "cannot get resource" };
                assert!(answer.json()["message"].as_str().is_some_and(|text| text.contains(verb)), "{answer:?}");
            }
            let headers = [
                ("connection", "Upgrade"),
                ("upgrade", "SPDY/3.1"),
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ];
            let answer = send(&client, "POST", &format!("{path}/{subresource}"), &headers, "").await?;
            assert_eq!(answer.code, spdy, "{what}: {answer:?}");
        }
    }
    Ok(())
}

/// Everything that the kubelet serves on its port needs a certificate or token, and a right on `nodes/proxy`.
async fn kubelet_asks_who_and_whether(world: &World) -> Result<()> {
    let paths = [
        "exec/default/absent/main?command=ls&output=1",
        "attach/default/absent/main?output=1",
        "portForward/default/nobody",
        "containerLogs/default/absent/main",
        "run/default/absent/main?cmd=ls",
    ];
    let url = format!("https://{ADDRESS}:{PORT}");
    let nobody = kubelet_client(&url, None)?;
    let someone = kubelet_client(&url, Some(world.plane.certificate_for("someone", &[])?))?;
    let server = kubelet_client(&url, Some(world.plane.certificate_for("server", &["kubeadm:cluster-admins"])?))?;
    for path in paths {
        let method = if path.starts_with("containerLogs") { "GET" } else { "POST" };
        let mut codes = Vec::new();
        for client in [&nobody, &someone, &server] {
            let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
            codes.push(send(client, method, &format!("/{path}"), &headers, "").await?.code);
        }
        let served = if method == "GET" { 400 } else { 404 };
        assert_eq!(codes, [401, 403, served], "{path}");
    }
    for (method, path, code) in [
        ("PUT", "/exec/default/absent/main?command=ls&output=1", 405),
        ("GET", "/run/default/absent/main?cmd=ls", 405),
        ("POST", "/exec/default/nobody/main?command=ls&output=1", 404),
        ("POST", "/exec/default", 404),
    ] {
        assert_eq!(send(&server, method, path, &[], "").await?.code, code, "{method} {path}");
    }
    Ok(())
}

fn kubelet_client(url: &str, certificate: Option<kubeadm::pki::KeyedCertificate>) -> Result<Client> {
    let mut config = kube::Config::new(url.parse()?);
    config.accept_invalid_certs = true;
    if let Some(certificate) = certificate {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        config.auth_info.client_certificate_data = Some(encode(&certificate.certificate));
        config.auth_info.client_key_data = Some(encode(&certificate.key).into());
    }
    Ok(Client::try_from(config)?)
}
