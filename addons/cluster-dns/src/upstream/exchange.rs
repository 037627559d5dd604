//! One question to other servers: over UDP, one server after the other, and over TCP where the answer does not fit.

use crate::answer::MAX_UDP;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server has for one try.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no upstream server")]
    NoServer,
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server cannot be reached")]
    Io(#[from] std::io::Error),
    #[error("the message is malformed")]
    Wire(String),
    #[error("the server answered {0}")]
    Refused(ResponseCode),
}

pub async fn ask(servers: &[SocketAddr], query: &Query, dnssec: bool) -> Result<Message, Error> {
    let request = request(query, dnssec);
    let bytes = request.to_vec().map_err(|e| Error::Wire(e.to_string()))?;
    let mut last = Error::NoServer;
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        match ask_server(*server, &request, &bytes).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `Message::query` has a random number, and each question a port of its own: an answer cannot be guessed.
fn request(query: &Query, dnssec: bool) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP);
    edns.set_dnssec_ok(dnssec);
    request.set_edns(edns);
    request
}

async fn ask_server(server: SocketAddr, request: &Message, bytes: &[u8]) -> Result<Message, Error> {
    let mut answer = timeout(PATIENCE, udp(server, request, bytes)).await.map_err(|_| Error::Timeout)??;
    if answer.metadata.truncation {
        answer = timeout(PATIENCE, tcp(server, request, bytes)).await.map_err(|_| Error::Timeout)??;
    }
    match answer.metadata.response_code {
        code @ (ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp) => Err(Error::Refused(code)),
        _ => Ok(answer),
    }
}

async fn udp(server: SocketAddr, request: &Message, bytes: &[u8]) -> Result<Message, Error> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not belong to the question is not an answer: the right one may still come.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(&answer, request)
        {
            return Ok(answer);
        }
    }
}

async fn tcp(server: SocketAddr, request: &Message, bytes: &[u8]) -> Result<Message, Error> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|e| Error::Wire(e.to_string()))?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(|e| Error::Wire(e.to_string()))?;
    if answers(&answer, request) { Ok(answer) } else { Err(Error::Wire("it answers another question".into())) }
}

fn answers(answer: &Message, request: &Message) -> bool {
    answer.metadata.id == request.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == request.queries
}
