//! Real questions over UDP and TCP on loopback: to the cluster's zone, and through it to an upstream server.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use cluster_dns::answer::{Resolver, Transport};
use cluster_dns::metrics::Metrics;
use cluster_dns::server::Server;
use cluster_dns::upstream::Upstream;
use cluster_dns::zone::{Endpoint, Kind, Port, Service, ServiceName, Slice, Zone};
use component_base::shutdown::Shutdown;
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use parking_lot::RwLock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How many endpoints `big` has: too many for one UDP packet.
const MANY: u8 = 200;

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local", 30);
    let mut add = |name: &str, kind| {
        let ports = vec![Port { name: "http".into(), protocol: "tcp".into(), port: 80 }];
        zone.set_service(&ServiceName::new("default", name), Some(Service { kind, ports }));
    };
    add("web", Kind::ClusterIp(vec!["10.96.0.5".parse().unwrap()]));
    add("big", Kind::Headless);
    add("out", Kind::ExternalName("www.example.org".into()));
    add("alias", Kind::ExternalName("web.default.svc.cluster.local".into()));
    let endpoints = (1..=MANY).map(|n| Endpoint { addresses: vec![[10, 244, 1, n].into()], hostname: None }).collect();
    let big = Slice { service: ServiceName::new("default", "big"), ports: Vec::new(), endpoints };
    zone.set_slice(&("default".into(), "big-1".into()), Some(big));
    zone
}

/// A server with the zone above, forwarding to `upstream`.
async fn start(upstream: Vec<SocketAddr>) -> (SocketAddr, Shutdown) {
    let zone = Arc::new(RwLock::new(zone()));
    let resolver = Resolver { zone, upstream: Upstream::new(upstream), metrics: Metrics::default() };
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), Arc::new(resolver)).await.unwrap();
    let address = server.address().unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(server.run(shutdown.clone()));
    (address, shutdown)
}

/// An upstream server that knows one address for every name, counts the questions, and waits before it answers.
async fn upstream(wait: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let mut response = Message::response(request.metadata.id, OpCode::Query);
            response.add_query(request.queries[0].clone());
            if request.queries[0].query_type() == RecordType::A {
                let address = RData::A(rdata::A([192, 0, 2, 80].into()));
                response.add_answer(Record::from_rdata(request.queries[0].name().clone(), 300, address));
            }
            let socket = socket.clone();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                socket.send_to(&response.to_vec().unwrap(), peer).await.unwrap();
            });
        }
    });
    (address, count)
}

fn request(name: &str, kind: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    request
}

async fn ask(server: SocketAddr, request: &Message, transport: Transport) -> Message {
    let bytes = request.to_vec().unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), raw(server, &bytes, transport)).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, request.metadata.id);
    assert_eq!(answer.queries, request.queries);
    answer
}

async fn raw(server: SocketAddr, bytes: &[u8], transport: Transport) -> Vec<u8> {
    match transport {
        Transport::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(bytes, server).await.unwrap();
            let mut buffer = vec![0; 65_535];
            let length = socket.recv(&mut buffer).await.unwrap();
            buffer.truncate(length);
            buffer
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect(server).await.unwrap();
            stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut buffer).await.unwrap();
            buffer
        }
    }
}

fn values(message: &Message) -> Vec<String> {
    let mut values: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
    values.sort();
    values
}

#[tokio::test]
async fn a_service_is_answered_over_udp_and_tcp() {
    let (server, _shutdown) = start(Vec::new()).await;
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = ask(server, &request("Web.default.SVC.cluster.local.", RecordType::A), transport).await;
        assert_eq!(values(&answer), ["10.96.0.5"]);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert_eq!(answer.answers[0].ttl, 30);
        assert!(answer.answers[0].name.eq_case(&Name::from_ascii("Web.default.SVC.cluster.local.").unwrap()));
    }
    let srv = ask(server, &request("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV), Transport::Udp).await;
    assert_eq!(values(&srv), ["0 100 80 web.default.svc.cluster.local."]);
    assert_eq!(srv.additionals.len(), 1);
    let ptr = ask(server, &request("5.0.96.10.in-addr.arpa.", RecordType::PTR), Transport::Udp).await;
    assert_eq!(values(&ptr), ["web.default.svc.cluster.local."]);
}

#[tokio::test]
async fn no_data_and_no_name_are_told_apart_and_both_may_be_remembered() {
    let (server, _shutdown) = start(Vec::new()).await;
    for (name, kind, code) in [
        ("web.default.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
        ("default.svc.cluster.local.", RecordType::A, ResponseCode::NoError),
        ("nothing.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(server, &request(name, kind), Transport::Udp).await;
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }
    let soa = ask(server, &request("cluster.local.", RecordType::SOA), Transport::Udp).await;
    assert_eq!(soa.answers[0].record_type(), RecordType::SOA);
}

#[tokio::test]
async fn answers_that_do_not_fit_are_cut_with_a_mark_and_complete_over_tcp() {
    let (server, _shutdown) = start(Vec::new()).await;
    let plain = request("big.default.svc.cluster.local.", RecordType::A);
    let mut extended = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    extended.set_edns(edns);
    for (request, limit) in [(&plain, 512), (&extended, 1232)] {
        let bytes = raw(server, &request.to_vec().unwrap(), Transport::Udp).await;
        assert!(bytes.len() <= limit, "{} bytes", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(answer.metadata.truncation && !answer.answers.is_empty());
        assert_eq!(answer.edns.is_some(), request.edns.is_some());
    }
    let whole = ask(server, &plain, Transport::Tcp).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), usize::from(MANY));
}

#[tokio::test]
async fn other_names_are_asked_upstream_once() {
    let (upstream, count) = upstream(Duration::from_millis(300)).await;
    let (server, _shutdown) = start(vec![upstream]).await;
    let question = request("www.example.org.", RecordType::A);
    let together = futures::future::join_all((0..10).map(|_| ask(server, &question, Transport::Udp))).await;
    for answer in together {
        assert_eq!(values(&answer), ["192.0.2.80"]);
        assert!(!answer.metadata.authoritative);
    }
    ask(server, &question, Transport::Tcp).await;
    assert_eq!(count.load(Ordering::SeqCst), 1, "one question at a time, and the answer is remembered");
}

#[tokio::test]
async fn external_names_are_followed_outside_and_inside() {
    let (upstream, _) = upstream(Duration::ZERO).await;
    let (server, _shutdown) = start(vec![upstream]).await;
    let out = ask(server, &request("out.default.svc.cluster.local.", RecordType::A), Transport::Udp).await;
    assert_eq!(values(&out), ["192.0.2.80", "www.example.org."]);
    let inside = ask(server, &request("alias.default.svc.cluster.local.", RecordType::A), Transport::Udp).await;
    assert_eq!(values(&inside), ["10.96.0.5", "web.default.svc.cluster.local."]);
    let cname = ask(server, &request("out.default.svc.cluster.local.", RecordType::CNAME), Transport::Udp).await;
    assert_eq!(values(&cname), ["www.example.org."]);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_silent_and_none_is_a_failure() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (upstream, _) = upstream(Duration::ZERO).await;
    let (server, _shutdown) = start(vec![silent.local_addr().unwrap(), upstream]).await;
    let answer = ask(server, &request("www.example.org.", RecordType::A), Transport::Udp).await;
    assert_eq!(values(&answer), ["192.0.2.80"]);
    let (alone, _shutdown) = start(Vec::new()).await;
    let answer = ask(alone, &request("www.example.org.", RecordType::A), Transport::Udp).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_server_that_forwards_to_itself_fails_instead_of_multiplying() {
    // The address is known only after binding: two servers that forward to each other make the same loop.
    let first = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    drop(first);
    let (second, _shutdown) = start(vec![address]).await;
    let resolver = Resolver {
        zone: Arc::new(RwLock::new(zone())),
        upstream: Upstream::new(vec![second]),
        metrics: Metrics::default(),
    };
    let server = Server::bind(address, Arc::new(resolver)).await.unwrap();
    tokio::spawn(server.run(Shutdown::new()));
    let answer = ask(second, &request("www.example.org.", RecordType::A), Transport::Udp).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn what_is_not_a_question_gets_the_right_refusal_or_nothing() {
    let (server, _shutdown) = start(Vec::new()).await;
    let mut status = request("cluster.local.", RecordType::A);
    status.metadata.op_code = OpCode::Status;
    assert_eq!(ask(server, &status, Transport::Udp).await.metadata.response_code, ResponseCode::NotImp);
    let mut two = request("a.cluster.local.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("b.cluster.local.").unwrap(), RecordType::A));
    assert_eq!(ask(server, &two, Transport::Udp).await.metadata.response_code, ResponseCode::FormErr);
    let garbage = [0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let answer = Message::from_vec(&raw(server, &garbage, Transport::Udp).await).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (0x1234, ResponseCode::FormErr));
    // A response is not answered: the next request on the same socket is the first that is.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let response = Message::response(7, OpCode::Query).to_vec().unwrap();
    let question = request("web.default.svc.cluster.local.", RecordType::A);
    socket.send_to(&response, server).await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().metadata.id, question.metadata.id);
}
