//! Two nodes in network namespaces, with the machine's real CNI plugins: Pods get addresses of their node's range, reach each other on
//! one node and between nodes as they are, and the outside as their node. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use component_base::nft;
use nix::sched::{CloneFlags, setns};
use pod_network::agent::Agent;
use pod_network::kernel::Netlink;
use pod_network::plan::{NodeView, Settings};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PLUGINS: &str = "/usr/lib/cni";
const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(5);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Namespaces with names of their own, which go with the value.
struct World {
    prefix: String,
    dir: tempfile::TempDir,
    made: Vec<String>,
}

impl World {
    /// Nodes `n1` and `n2` at 192.168.60.1 and .2, and `outside` at .3, on one switch.
    fn new() -> Self {
        let prefix = format!("pn{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut world = Self { prefix, dir: tempfile::tempdir().unwrap(), made: Vec::new() };
        world.namespace("switch");
        world.ip("switch", "link add sw0 type bridge");
        world.ip("switch", "link set sw0 up");
        for (number, name) in [(1, "n1"), (2, "n2"), (3, "outside")] {
            world.namespace(name);
            let switch = format!("{}-switch", world.prefix);
            world.ip(name, &format!("link add eth0 type veth peer name to-{name} netns {switch}"));
            world.ip("switch", &format!("link set to-{name} master sw0 up"));
            world.ip(name, &format!("addr add 192.168.60.{number}/24 dev eth0"));
            world.ip(name, "link set eth0 up");
        }
        world
    }

    fn namespace(&mut self, name: &str) {
        run(&format!("ip netns add {}-{name}", self.prefix));
        self.made.push(name.to_owned());
        self.ip(name, "link set lo up");
    }

    fn ip(&self, namespace: &str, arguments: &str) {
        run(&format!("ip -n {}-{namespace} {arguments}", self.prefix));
    }

    fn output(&self, namespace: &str, command: &str) -> String {
        run(&format!("ip netns exec {}-{namespace} {command}", self.prefix))
    }

    fn within<T: Send + 'static>(&self, namespace: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}-{namespace}", self.prefix)).unwrap();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        })
        .join()
        .unwrap()
    }

    fn settings(&self, node: &str) -> Settings {
        Settings {
            node_name: node.into(),
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            bridge: "cni0".into(),
            mtu: None,
            cni_conf_dir: self.dir.path().join(node),
            cni_conf_name: "10-pod-network.conflist".into(),
            ipam_data_dir: Some(self.dir.path().join(format!("{node}-addresses"))),
            port_mappings: true,
            masquerade: true,
        }
    }

    /// Lets a node's agent do its work once.
    fn agent(&self, node: &str, nodes: &BTreeMap<String, NodeView>) {
        let nodes = nodes.clone();
        assert!(self.with_agent(node, async move |agent| agent.reconcile(&nodes).await.unwrap()));
    }

    fn with_agent<T: Send + 'static>(&self, node: &str, work: impl AsyncFnOnce(&mut Agent) -> T + Send + 'static) -> T {
        let settings = self.settings(node);
        self.within(node, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let kernel = Box::new(Netlink::connect().unwrap());
                let mut agent = Agent::new(settings, kernel, Box::new(nft::Program::default()));
                work(&mut agent).await
            })
        })
    }

    /// Starts a "Pod" as a container runtime does, by the node's CNI configuration. Gives its address.
    fn pod(&mut self, node: &str, name: &str) -> Ipv4Addr {
        self.namespace(name);
        let settings = self.settings(node);
        let list = std::fs::read(settings.cni_conf_dir.join(&settings.cni_conf_name)).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        let path = Path::new(PLUGINS).join(plugin["type"].as_str().unwrap());
        assert!(path.exists(), "{} is missing: install containernetworking-plugins", path.display());
        let mut child = Command::new("ip")
            .args(["netns", "exec", &format!("{}-{node}", self.prefix)])
            .arg(path)
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", name)
            .env("CNI_NETNS", format!("/run/netns/{}-{name}", self.prefix))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(plugin.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{result}");
        result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap()
    }

    /// A server that tells each client its address.
    fn serve(&self, namespace: &str) {
        let listener = self.within(namespace, || TcpListener::bind(("0.0.0.0", PORT)).unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let peer = stream.peer_addr().unwrap().ip().to_string();
                if stream.write_all(peer.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }

    /// How a server sees a client of a namespace.
    fn seen(&self, from: &str, to: Ipv4Addr) -> String {
        self.within(from, move || {
            let mut stream = TcpStream::connect_timeout(&(to, PORT).into(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in &self.made {
            let namespace = format!("{}-{name}", self.prefix);
            if let Err(error) = Command::new("ip").args(["netns", "del", &namespace]).output() {
                eprintln!("{namespace} is left behind: {error}");
            }
        }
    }
}

fn run(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|e| panic!("cannot run {line:?}: {e}; install the packages iproute2 and nftables"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn node(cidr: &str, ip: &str) -> NodeView {
    NodeView { pod_cidrs: vec![cidr.parse().unwrap()], internal_ips: vec![ip.parse().unwrap()] }
}

fn nodes() -> BTreeMap<String, NodeView> {
    BTreeMap::from([
        ("n1".into(), node("10.244.1.0/24", "192.168.60.1")),
        ("n2".into(), node("10.244.2.0/24", "192.168.60.2")),
    ])
}

#[test]
fn pods_reach_each_other_as_they_are_and_the_outside_as_their_node() {
    let mut w = World::new();
    // The first node has a packet filter that drops what it does not know, as Docker makes it.
    w.output("n1", "iptables -P FORWARD DROP");
    w.agent("n1", &nodes());
    w.agent("n1", &nodes());
    assert_eq!(w.output("n1", "iptables -S FORWARD").matches("-j POD-NETWORK").count(), 1);
    w.agent("n2", &nodes());
    let (a, b, c) = (w.pod("n1", "a"), w.pod("n1", "b"), w.pod("n2", "c"));
    assert!(a.to_string().starts_with("10.244.1.") && b.to_string().starts_with("10.244.1."));
    assert!(c.to_string().starts_with("10.244.2."));
    for name in ["b", "c", "n2", "outside"] {
        w.serve(name);
    }
    assert_eq!(w.seen("a", b), a.to_string());
    assert_eq!(w.seen("a", c), a.to_string());
    assert_eq!(w.seen("c", b), c.to_string());
    assert_eq!(w.seen("a", [192, 168, 60, 3].into()), "192.168.60.1");
    assert_eq!(w.seen("c", [192, 168, 60, 3].into()), "192.168.60.2");
    // Nodes reach Pods, their own and others'.
    assert_eq!(w.seen("n1", b), "10.244.1.1");
    assert_eq!(w.seen("n1", c), "192.168.60.1");
    // Traffic on the bridge passes the IP rules: Services between two Pods of a node depend on it.
    assert_eq!(w.output("n1", "ip -d link show cni0").matches("nf_call_iptables 1").count(), 1);
}

#[test]
fn routes_follow_nodes_that_move_and_go_and_leave_others_alone() {
    let w = World::new();
    w.ip("n1", "route add 10.99.0.0/24 via 192.168.60.3");
    w.agent("n1", &nodes());
    let routes = || w.output("n1", "ip route show");
    assert!(routes().contains("10.244.2.0/24 via 192.168.60.2"), "{}", routes());
    let mut moved = nodes();
    moved.insert("n2".into(), node("10.244.2.0/24", "192.168.60.3"));
    moved.insert("n3".into(), node("10.244.3.0/24", "192.168.60.2"));
    w.agent("n1", &moved);
    assert!(routes().contains("10.244.2.0/24 via 192.168.60.3"), "{}", routes());
    assert!(routes().contains("10.244.3.0/24 via 192.168.60.2"), "{}", routes());
    moved.remove("n2");
    w.agent("n1", &moved);
    assert!(!routes().contains("10.244.2.0/24"), "{}", routes());
    assert!(routes().contains("10.99.0.0/24 via 192.168.60.3"), "{}", routes());
}

#[test]
fn one_unreachable_node_does_not_cut_off_the_others() {
    let w = World::new();
    let mut all = nodes();
    all.insert("m".into(), node("10.244.9.0/24", "172.31.0.9"));
    let error = w.with_agent("n1", async move |agent| agent.reconcile(&all).await.unwrap_err().to_string());
    assert!(error.starts_with("1 of 2 routes could not be set"), "{error}");
    assert!(w.output("n1", "ip route show").contains("10.244.2.0/24 via 192.168.60.2"));
}

#[test]
fn a_changed_range_moves_the_bridge_and_cleanup_leaves_nothing() {
    let w = World::new();
    w.agent("n1", &nodes());
    let mut changed = nodes();
    changed.insert("n1".into(), node("10.244.7.0/24", "192.168.60.1"));
    w.agent("n1", &changed);
    let addresses = w.output("n1", "ip -4 addr show dev cni0");
    assert!(addresses.contains("10.244.7.1/24") && !addresses.contains("10.244.1.1"), "{addresses}");
    assert!(w.output("n1", "nft list table ip pod-network").contains("10.244.7.0/24"));

    w.output("n1", "iptables -P FORWARD DROP");
    w.agent("n1", &changed);
    assert!(w.output("n1", "iptables -S").contains("POD-NETWORK"));

    w.with_agent("n1", async |agent| agent.cleanup().await.unwrap());
    assert!(!w.output("n1", "iptables -S").contains("POD-NETWORK"));
    assert!(!w.output("n1", "ip link").contains("cni0"));
    assert!(!w.output("n1", "ip route show").contains("10.244."));
    assert!(!w.output("n1", "nft list tables").contains("pod-network"));
    assert_eq!(std::fs::read_dir(w.dir.path().join("n1")).unwrap().count(), 0);
}
