//! Exec, attach and port-forward: the runtime's own streaming server does the work, and the upgraded connection is carried to it byte
//! for byte, so that SPDY and WebSocket both pass as they are.

use std::time::Duration;

use component_base::serving::{Body, text};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proto::cri as api;
use tokio::net::TcpStream;

use super::{flag, not_found, queries, query};
use crate::pods::Pods;
use crate::runtime::State;

const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// The container of `[namespace, pod, container]` or `[namespace, pod, uid, container]`.
fn target(pods: &Pods, rest: &[&str]) -> Result<String, String> {
    let (namespace, pod, container) = match rest {
        [namespace, pod, container] | [namespace, pod, _, container] => (*namespace, *pod, *container),
        _ => return Err("404 page not found\n".to_owned()),
    };
    running(pods, namespace, pod, container)
}

fn running(pods: &Pods, namespace: &str, pod: &str, container: &str) -> Result<String, String> {
    let missing = || format!("pod \"{pod}\" does not exist\n");
    let handle = pods.find(namespace, pod).ok_or_else(missing)?;
    let view = handle.shared.view.lock();
    let found = view.latest(container).filter(|found| found.state == State::Running);
    let missing = || format!("container not found (\"{container}\")\n");
    found.map(|found| found.id.clone()).ok_or_else(missing)
}

fn failed(error: &dyn std::fmt::Display) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

fn on(uri: &http::Uri, short: &str, long: &str) -> bool {
    flag(uri, short) || flag(uri, long)
}

pub async fn exec(pods: &Pods, request: Request<Incoming>, rest: &[&str]) -> Response<Body> {
    let container_id = match target(pods, rest) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::NOT_FOUND, message),
    };
    let uri = request.uri();
    let tty = on(uri, "tty", "tty");
    let ask = api::ExecRequest {
        container_id,
        cmd: queries(uri, "command"),
        tty,
        stdin: on(uri, "input", "stdin"),
        stdout: on(uri, "output", "stdout"),
        stderr: !tty && on(uri, "error", "stderr"),
    };
    match pods.agent().runtime.exec(ask).await {
        Ok(url) => tunnel(request, &url).await,
        Err(error) => failed(&error),
    }
}

pub async fn attach(pods: &Pods, request: Request<Incoming>, rest: &[&str]) -> Response<Body> {
    let container_id = match target(pods, rest) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::NOT_FOUND, message),
    };
    let uri = request.uri();
    let tty = on(uri, "tty", "tty");
    let ask = api::AttachRequest {
        container_id,
        tty,
        stdin: on(uri, "input", "stdin"),
        stdout: on(uri, "output", "stdout"),
        stderr: !tty && on(uri, "error", "stderr"),
    };
    match pods.agent().runtime.attach(ask).await {
        Ok(url) => tunnel(request, &url).await,
        Err(error) => failed(&error),
    }
}

pub async fn port_forward(pods: &Pods, request: Request<Incoming>, rest: &[&str]) -> Response<Body> {
    let (namespace, pod) = match rest {
        [namespace, pod] | [namespace, pod, _] => (*namespace, *pod),
        _ => return not_found(),
    };
    let sandbox =
        pods.find(namespace, pod).and_then(|handle| Some(handle.shared.view.lock().ready_sandbox()?.id.clone()));
    let Some(pod_sandbox_id) = sandbox else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist\n"));
    };
    let ports = queries(request.uri(), "port")
        .iter()
        .chain(&queries(request.uri(), "ports"))
        .flat_map(|list| list.split(','))
        .filter_map(|port| port.parse().ok())
        .collect();
    match pods.agent().runtime.port_forward(api::PortForwardRequest { pod_sandbox_id, port: ports }).await {
        Ok(url) => tunnel(request, &url).await,
        Err(error) => failed(&error),
    }
}

/// Runs a command and answers with what it wrote.
pub async fn run(
    pods: &Pods,
    request: &Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
    }
    let id = match running(pods, namespace, pod, container) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::NOT_FOUND, message),
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
async fn tunnel(mut request: Request<Incoming>, url: &str) -> Response<Body> {
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return failed(&error),
    };
    let Some(authority) = uri.authority().map(|authority| authority.as_str().to_owned()) else {
        return failed(&"the runtime's streaming URL has no host");
    };
    if !request.headers().contains_key(header::UPGRADE) {
        return text(StatusCode::BAD_REQUEST, "you must specify an upgrade\n");
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
    tokio::spawn(async move {
        match tokio::try_join!(near, far) {
            Ok((near, far)) => {
                let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
                if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
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
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to the runtime's streaming server ended");
        }
    });
    Ok(sender.send_request(request).await?)
}
