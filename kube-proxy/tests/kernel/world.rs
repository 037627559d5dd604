//! A small cluster of network namespaces: a node with two pods, and a client outside. Made for one test, and gone with it.

use kube_proxy::conntrack::{self, Conntrack};
use kube_proxy::nft::{self, Nft};
use kube_proxy::plan::{LocalTraffic, Policy};
use kube_proxy::proxier::Proxier;
use kube_proxy::testing;
use kube_proxy::view::{Family, ServiceView, SliceView};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const NODE: &str = "192.168.50.1";
pub const CLIENT: &str = "192.168.50.2";
pub const POD1: &str = "10.244.1.2";
pub const POD2: &str = "10.244.1.6";
pub const POD1_V6: &str = "fd00:244::1:2";
pub const PORT: u16 = 8080;
/// Long enough for a loaded machine to answer; a dropped packet takes all of it.
const PATIENCE: Duration = Duration::from_secs(3);

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct World {
    prefix: String,
    pub proxier: Proxier,
    nft: nft::Program,
    conntrack: conntrack::Program,
}

/// What a server said: its name, and whom it saw.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub server: String,
    pub peer: String,
}

impl World {
    pub fn new() -> Self {
        let prefix = format!("kp{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let exec = |p: &str| -> Vec<String> {
            let ns = format!("{prefix}-node");
            ["ip", "netns", "exec", &ns].into_iter().chain((!p.is_empty()).then_some(p)).map(String::from).collect()
        };
        let policy = Policy {
            local_traffic: LocalTraffic::ClusterCidr(vec![
                "10.244.0.0/16".parse().unwrap(),
                "fd00:244::/32".parse().unwrap(),
            ]),
            ..Policy::default()
        };
        let node = kube_proxy::view::Node {
            ips: vec![NODE.parse().unwrap(), "fd00:50::1".parse().unwrap()],
            ..testing::node()
        };
        let world = Self {
            proxier: Proxier::new(Family::ALL.to_vec(), policy, node, Vec::new()),
            nft: nft::Program::with_command(exec("nft")),
            conntrack: conntrack::Program { prefix: exec("") },
            prefix,
        };
        world.build();
        world
    }

    fn build(&self) {
        for name in ["node", "client", "pod1", "pod2"] {
            run(&format!("ip netns add {}-{name}", self.prefix));
            self.ip(name, "link set lo up");
        }
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            run(&format!("ip netns exec {}-node sysctl -qw {setting}", self.prefix));
        }
        self.link("client", "192.168.50.1/24", "192.168.50.2/24", "fd00:50::1/64", "fd00:50::2/64");
        self.link("pod1", "10.244.1.1/30", "10.244.1.2/30", "fd00:244::1:1/126", "fd00:244::1:2/126");
        self.link("pod2", "10.244.1.5/30", "10.244.1.6/30", "fd00:244::1:5/126", "fd00:244::1:6/126");
        self.ip("node", "route add default via 192.168.50.2");
        self.ip("node", "-6 route add default via fd00:50::2");
    }

    /// A cable from the node to `name`, which sends everything through it.
    fn link(&self, name: &str, ours: &str, theirs: &str, ours6: &str, theirs6: &str) {
        let p = &self.prefix;
        run(&format!("ip -n {p}-node link add to-{name} type veth peer name eth0 netns {p}-{name}"));
        self.ip("node", &format!("addr add {ours} dev to-{name}"));
        self.ip("node", &format!("addr add {ours6} dev to-{name} nodad"));
        self.ip("node", &format!("link set to-{name} up"));
        self.ip(name, &format!("addr add {theirs} dev eth0"));
        self.ip(name, &format!("addr add {theirs6} dev eth0 nodad"));
        self.ip(name, "link set eth0 up");
        let gateway = |cidr: &str| cidr.split('/').next().unwrap().to_owned();
        self.ip(name, &format!("route add default via {}", gateway(ours)));
        self.ip(name, &format!("-6 route add default via {}", gateway(ours6)));
    }

    fn ip(&self, namespace: &str, arguments: &str) {
        run(&format!("ip -n {}-{namespace} {arguments}", self.prefix));
    }

    /// A command in a namespace.
    pub fn command(&self, namespace: &str, arguments: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{namespace}", self.prefix)]).args(arguments.split(' '));
        command
    }

    /// Makes a Service what it should be, in the kernel.
    pub async fn set(&mut self, service: &ServiceView, endpoints: &[&str]) {
        self.proxier.set_service(&service.name.clone(), Some(service.clone()));
        let slice = testing::slice(&service.name.name, endpoints);
        self.set_slice(slice).await;
    }

    pub async fn set_slice(&mut self, slice: SliceView) {
        let name = ("ns".to_owned(), format!("{}-{}", slice.service.name, slice.family.nft()));
        self.proxier.set_slice(&name, Some(slice));
        self.sync().await;
    }

    pub async fn sync(&mut self) {
        let sync = self.proxier.plan();
        let script = sync.transaction.render();
        self.nft.apply(&script).await.unwrap_or_else(|e| panic!("{e}\n{script}"));
        for cut in &sync.cuts {
            self.conntrack.cut(cut).await.unwrap();
        }
    }

    /// Runs something with the network of a namespace.
    pub fn within<T: Send + 'static>(&self, namespace: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn_within(namespace, f).join().unwrap()
    }

    fn spawn_within<T: Send + 'static>(
        &self,
        namespace: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}-{namespace}", self.prefix)).unwrap();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        })
    }

    /// Serves TCP and UDP in a namespace: the answer is the server's name and the peer's address. A TCP connection
    /// gets an answer for every byte it sends. The threads end with the test's process.
    pub fn serve(&self, namespace: &'static str) {
        let (tcp, udp) = self
            .within(namespace, || (TcpListener::bind(("::", PORT)).unwrap(), UdpSocket::bind(("::", PORT)).unwrap()));
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer_stream(stream, namespace));
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                udp.send_to(answer(namespace, peer).as_bytes(), peer).unwrap();
            }
        });
    }

    pub fn connect(&self, from: &str, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        self.within(from, move || {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        })
    }

    pub fn ask(&self, from: &str, to: &str) -> std::io::Result<Answer> {
        ask_stream(&mut self.connect(from, to)?)
    }

    /// The server's name, or how the connection failed.
    pub fn who(&self, from: &str, to: &str) -> String {
        self.ask(from, to).map_or_else(|e| format!("{:?}", e.kind()), |a| a.server)
    }

    /// A UDP socket of a namespace, to be used for several questions of one flow.
    pub fn udp(&self, from: &str) -> UdpSocket {
        let socket = self.within(from, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

pub fn ask_udp(socket: &UdpSocket, to: &str) -> std::io::Result<Answer> {
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(parse(&String::from_utf8_lossy(&buffer[..length])))
}

pub fn ask_stream(stream: &mut TcpStream) -> std::io::Result<Answer> {
    stream.write_all(b"?")?;
    let mut buffer = [0; 128];
    let length = stream.read(&mut buffer)?;
    Ok(parse(&String::from_utf8_lossy(&buffer[..length])))
}

fn answer_stream(mut stream: TcpStream, name: &str) {
    let Ok(peer) = stream.peer_addr() else { return };
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|n| n > 0) {
        if stream.write_all(answer(name, peer).as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(name: &str, peer: SocketAddr) -> String {
    let ip: IpAddr = peer.ip().to_canonical();
    format!("{name} {ip}")
}

fn parse(text: &str) -> Answer {
    let (server, peer) = text.split_once(' ').unwrap_or((text, ""));
    Answer { server: server.into(), peer: peer.into() }
}

fn run(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| {
        panic!("cannot run {line:?}: {e}; install the packages iproute2, nftables, conntrack and procps")
    });
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["pod1", "pod2", "client", "node"] {
            let namespace = format!("{}-{name}", self.prefix);
            if let Err(error) = Command::new("ip").args(["netns", "del", &namespace]).output() {
                eprintln!("{namespace} is left behind: {error}");
            }
        }
    }
}
