//! Exec, attach and port-forward: the runtime's own streaming server does the work, and the upgraded connection is carried to it byte
//! for byte, so that SPDY and WebSocket both pass as they are.

use std::time::Duration;

use component_base::relay;
use component_base::serving::{Body, text};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proto::cri as api;
use tokio::net::TcpStream;

use super::{flag, not_found, queries, query};
use crate::pod;
use crate::pods::Pods;
use crate::runtime::State;
use crate::worker::Handle;

const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// The answer to a request that cannot be served.
type Refusal = Box<Response<Body>>;

fn refuse(code: StatusCode, message: impl std::fmt::Display) -> Refusal {
    Box::new(text(code, format!("{message}\n")))
}

fn failed(error: &dyn std::fmt::Display) -> Response<Body> {
    *refuse(StatusCode::INTERNAL_SERVER_ERROR, error)
}

/// The running container of `[namespace, pod, container]` or `[namespace, pod, uid, container]`.
fn target(pods: &Pods, rest: &[&str]) -> Result<String, Refusal> {
    let (namespace, pod, uid, container) = match *rest {
        [namespace, pod, container] => (namespace, pod, None, container),
        [namespace, pod, uid, container] => (namespace, pod, Some(uid), container),
        _ => return Err(Box::new(not_found())),
    };
    let handle = find(pods, namespace, pod, uid)?;
    let view = handle.shared.view.lock();
    let found = view.latest(container).filter(|found| found.state == State::Running);
    let missing = || refuse(StatusCode::NOT_FOUND, format!("container not found (\"{container}\")"));
    found.map(|found| found.id.clone()).ok_or_else(missing)
}

fn find(pods: &Pods, namespace: &str, name: &str, uid: Option<&str>) -> Result<Handle, Refusal> {
    let found = pods.find(namespace, name);
    let found = found.filter(|handle| uid.is_none_or(|uid| pod::uid(&handle.input.borrow().pod) == uid));
    found.ok_or_else(|| refuse(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist")))
}

/// WebSockets are asked for with GET, SPDY with POST.
fn allow_method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::POST => Ok(()),
        _ => Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST")),
    }
}

/// The streams that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    /// As the API server names them, or as people do. A terminal has no stderr of its own.
    fn of(uri: &http::Uri) -> Option<Self> {
        let on = |short, long| flag(uri, short) || flag(uri, long);
        let tty = flag(uri, "tty");
        let streams = Self {
            stdin: on("input", "stdin"),
            stdout: on("output", "stdout"),
            stderr: !tty && on("error", "stderr"),
            tty,
        };
        (streams.stdin || streams.stdout || streams.stderr).then_some(streams)
    }
}

/// What exec and attach have in common: the method, the container and its streams.
fn command(pods: &Pods, request: &Request<Incoming>, rest: &[&str]) -> Result<(String, Streams), Refusal> {
    allow_method(request.method())?;
    let container = target(pods, rest)?;
    let none = || refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    Ok((container, Streams::of(request.uri()).ok_or_else(none)?))
}

pub async fn exec(pods: &Pods, request: Request<Incoming>, rest: &[&str]) -> Response<Body> {
    let (container_id, Streams { stdin, stdout, stderr, tty }) = match command(pods, &request, rest) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let cmd = queries(request.uri(), "command");
    match pods.agent().runtime.exec(api::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }).await {
        Ok(url) => tunnel(pods, request, &url).await,
        Err(error) => failed(&error),
    }
}

pub async fn attach(pods: &Pods, request: Request<Incoming>, rest: &[&str]) -> Response<Body> {
    let (container_id, Streams { stdin, stdout, stderr, tty }) = match command(pods, &request, rest) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    match pods.agent().runtime.attach(api::AttachRequest { container_id, tty, stdin, stdout, stderr }).await {
        Ok(url) => tunnel(pods, request, &url).await,
        Err(error) => failed(&error),
    }
}

/// The sandbox and the ports of `[namespace, pod]` or `[namespace, pod, uid]`. SPDY says its ports later, on its streams.
fn forwarding(pods: &Pods, request: &Request<Incoming>, rest: &[&str]) -> Result<api::PortForwardRequest, Refusal> {
    allow_method(request.method())?;
    let (namespace, name, uid) = match *rest {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some(uid)),
        _ => return Err(Box::new(not_found())),
    };
    let handle = find(pods, namespace, name, uid)?;
    let sandbox = handle.shared.view.lock().ready_sandbox().map(|sandbox| sandbox.id.clone());
    let missing = || refuse(StatusCode::NOT_FOUND, format!("pod \"{name}\" is not running"));
    Ok(api::PortForwardRequest { pod_sandbox_id: sandbox.ok_or_else(missing)?, port: ports(request.uri())? })
}

fn ports(uri: &http::Uri) -> Result<Vec<i32>, Refusal> {
    let lists = [queries(uri, "port"), queries(uri, "ports")].concat();
    let texts = lists.iter().flat_map(|list| list.split(',')).filter(|text| !text.is_empty());
    let parse = |text: &str| match text.parse() {
        Ok(port @ 1..=65_535) => Ok(port),
        _ => Err(refuse(StatusCode::BAD_REQUEST, format!("invalid port {text:?}"))),
    };
    texts.map(parse).collect()
}

pub async fn port_forward(pods: &Pods, request: Request<Incoming>, rest: &[&str]) -> Response<Body> {
    let ask = match forwarding(pods, &request, rest) {
        Ok(ask) => ask,
        Err(refusal) => return *refusal,
    };
    match pods.agent().runtime.port_forward(ask).await {
        Ok(url) => tunnel(pods, request, &url).await,
        Err(error) => failed(&error),
    }
}

/// Runs a command and answers with what it wrote.
pub async fn run(pods: &Pods, request: &Request<Incoming>, rest: &[&str]) -> Response<Body> {
    if request.method() != Method::POST {
        return *refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST");
    }
    let id = match target(pods, rest) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let words = query(request.uri(), "cmd").unwrap_or_default();
    let command: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    match pods.agent().runtime.exec_sync(&id, &command, RUN_TIMEOUT).await {
        Ok(outcome) if outcome.exit_code == 0 => text(StatusCode::OK, outcome.output),
        Ok(outcome) => failed(&format!(
            "command terminated with exit code {}: {}",
            outcome.exit_code,
            String::from_utf8_lossy(&outcome.output)
        )),
        Err(error) => failed(&error),
    }
}

/// Repeats the request to the runtime's server, and joins both connections once it switched protocols.
async fn tunnel(pods: &Pods, mut request: Request<Incoming>, url: &str) -> Response<Body> {
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return failed(&error),
    };
    let Some(authority) = uri.authority().map(|authority| authority.as_str().to_owned()) else {
        return failed(&"the runtime's streaming URL has no host");
    };
    if !request.headers().contains_key(header::UPGRADE) {
        return *refuse(StatusCode::BAD_REQUEST, "you must specify an upgrade");
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut onward = Request::builder().method(request.method().clone()).uri(path).header(header::HOST, &authority);
    for (name, value) in request.headers() {
        if name != header::HOST && name != header::AUTHORIZATION {
            onward = onward.header(name, value);
        }
    }
    let onward = match onward.body(Empty::<bytes::Bytes>::new()) {
        Ok(onward) => onward,
        Err(error) => return failed(&error),
    };
    let mut answer = match send(&authority, onward).await {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer.map(|body| {
            body.map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>).boxed_unsync()
        });
    }
    let far = hyper::upgrade::on(&mut answer);
    let near = hyper::upgrade::on(&mut request);
    let idle = pods.agent().config.streaming_connection_idle_timeout.0;
    tokio::spawn(async move {
        match tokio::try_join!(near, far) {
            Ok((near, far)) => {
                if let Err(error) = relay::relay(TokioIo::new(near), TokioIo::new(far), idle).await {
                    tracing::debug!(%error, "a stream into a container ended");
                }
            }
            Err(error) => tracing::debug!(%error, "a stream into a container was not made"),
        }
    });
    let mut switched = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = answer.headers().clone();
    switched
}

async fn send(
    authority: &str,
    request: Request<Empty<bytes::Bytes>>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to the runtime's streaming server ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> http::Uri {
        format!("/exec/ns/pod/container?{query}").parse().unwrap()
    }

    #[test]
    fn streams_have_two_names_and_there_is_at_least_one() {
        let streams = |stdin, stdout, stderr, tty| Some(Streams { stdin, stdout, stderr, tty });
        for (query, expected) in [
            ("input=1&output=1&error=1", streams(true, true, true, false)),
            ("stdin=true&stdout=true&stderr=true", streams(true, true, true, false)),
            ("output=1&error=1&tty=1", streams(false, true, false, true)),
            ("error=1&tty=1", None),
            ("command=ls", None),
        ] {
            assert_eq!(Streams::of(&uri(query)), expected, "{query}");
        }
    }

    #[test]
    fn ports_are_lists_of_ports() {
        let found = |query| ports(&uri(query)).map_err(|refusal| refusal.status().as_u16());
        assert_eq!(found(""), Ok(vec![]));
        assert_eq!(found("port=80,443&ports=8080"), Ok(vec![80, 443, 8080]));
        for bad in ["port=0", "port=65536", "port=http", "port=-1"] {
            assert_eq!(found(bad), Err(400), "{bad}");
        }
    }
}
