//! DNS look-ups over UDP, with the server and the search list of /etc/resolv.conf unless told otherwise.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::net::UdpSocket;

#[derive(clap::Args)]
pub struct Options {
    /// The name; without a dot at its end, the search list is tried too
    name: String,
    /// A, AAAA, SRV, PTR, CNAME, TXT, …
    #[arg(long = "type", default_value = "A")]
    kind: RecordType,
    /// The server's address; from /etc/resolv.conf if not given
    #[arg(long)]
    server: Option<IpAddr>,
    #[arg(long, default_value_t = 53)]
    port: u16,
}

const TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 3;

/// What /etc/resolv.conf says.
#[derive(Debug, Default, Eq, PartialEq)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// Prints the data of each answer, one per line. Exit code 1 when there is none.
pub async fn run(options: Options) -> anyhow::Result<i32> {
    let resolver = parse_resolver(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let server = options.server.or(resolver.servers.first().copied()).context("no server: give --server")?;
    let mut last = ResponseCode::NXDomain;
    for name in candidates(&options.name, &resolver) {
        let response = look_up(SocketAddr::new(server, options.port), &name, options.kind).await?;
        if !response.answers.is_empty() {
            for record in &response.answers {
                println!("{}", record.data);
            }
            return Ok(0);
        }
        last = response.metadata.response_code;
    }
    eprintln!("{} {}: {last}", options.name, options.kind);
    Ok(1)
}

async fn look_up(server: SocketAddr, name: &str, kind: RecordType) -> anyhow::Result<Message> {
    let mut message = Message::new(std::process::id() as u16, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name)?, kind));
    let (question, mut buffer) = (message.to_vec()?, vec![0; 4096]);
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    for _ in 0..TRIES {
        socket.send(&question).await?;
        if let Ok(length) = tokio::time::timeout(TIMEOUT, socket.recv(&mut buffer)).await {
            return Ok(Message::from_vec(&buffer[..length?])?);
        }
    }
    bail!("{server} does not answer");
}

/// The names to ask for, in order: as `ndots` says.
fn candidates(name: &str, resolver: &Resolver) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let absolute = format!("{name}.");
    let mut names: Vec<String> = resolver.search.iter().map(|domain| format!("{name}.{domain}.")).collect();
    if name.matches('.').count() >= resolver.ndots {
        names.insert(0, absolute);
    } else {
        names.push(absolute);
    }
    names
}

fn parse_resolver(text: &str) -> Resolver {
    let mut resolver = Resolver { ndots: 1, ..Resolver::default() };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                resolver.servers.extend(words.next().and_then(|address| address.parse::<IpAddr>().ok()))
            }
            Some("search") => resolver.search = words.map(|domain| domain.trim_end_matches('.').to_owned()).collect(),
            Some("options") => {
                for option in words {
                    if let Some(dots) = option.strip_prefix("ndots:").and_then(|dots| dots.parse().ok()) {
                        resolver.ndots = dots;
                    }
                }
            }
            _ => {}
        }
    }
    resolver
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";

    #[test]
    fn a_short_name_is_looked_for_in_the_search_list_first() {
        let resolver = parse_resolver(POD);
        assert_eq!(resolver.servers, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            candidates("web", &resolver),
            ["web.default.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web."]
        );
    }

    #[test]
    fn a_name_with_enough_dots_is_taken_as_it_is_first() {
        let resolver = Resolver { search: vec!["example.org".into()], ndots: 1, ..Resolver::default() };
        assert_eq!(candidates("www.example.com", &resolver), ["www.example.com.", "www.example.com.example.org."]);
        assert_eq!(candidates("web.", &resolver), ["web."]);
    }
}
