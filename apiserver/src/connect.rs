//! Logs, exec, attach, port-forward and the proxies: the request goes to the kubelet (or to the pod or Service), and what comes
//! back, a body or an upgraded connection, goes to the client unchanged. WebSockets that a kubelet does not serve are translated to
//! what it does serve (KEP-4006).

mod forward;
mod logs;
mod remote_command;
mod route;
mod spdy;
mod tunnel;
mod websocket;

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_admission::Operation;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::admitted;
use crate::body::Body;
use crate::endpoints::write::{Call, Warnings};
use crate::request::{Query, RequestInfo};
use crate::served::Served;
use crate::server::{Context, Server};
use remote_command::session::Streams;
use websocket::Handshake;

/// The protocol of port-forward's streams at the kubelet, with or without a tunnel.
const PORT_FORWARD_PREFIX: &str = "SPDY/3.1+portforward.k8s.io";

/// How a request is served.
#[derive(Debug, PartialEq, Eq)]
enum Service {
    /// As it is.
    Pass,
    /// The body of the answer.
    Log,
    /// Its WebSocket becomes SPDY streams.
    Translate(Streams),
    /// Its WebSocket carries a SPDY connection.
    Tunnel,
}

impl Service {
    /// What the client speaks decides. Everything but what kubelets do not know is passed on.
    fn of(info: &RequestInfo, query: &Query, headers: &HeaderMap) -> Self {
        let offers =
            |wanted: fn(&str) -> bool| websocket::is_upgrade(headers) && websocket::protocols(headers).any(wanted);
        match (info.resource.as_str(), info.subresource.as_str()) {
            ("pods", "log") => Service::Log,
            ("pods", "exec" | "attach") if offers(|name| name == remote_command::PROTOCOL) => {
                Service::Translate(streams(query))
            }
            ("pods", "portforward") if offers(|name| name.starts_with(PORT_FORWARD_PREFIX)) => Service::Tunnel,
            _ => Service::Pass,
        }
    }
}

fn streams(query: &Query) -> Streams {
    let [stdin, stdout, stderr, tty] = ["stdin", "stdout", "stderr", "tty"].map(|name| query.flag(name));
    Streams { stdin, stdout, stderr, tty }
}

/// Answers a connect request.
pub async fn answer(
    server: Arc<Server>,
    context: &Context,
    served: &Arc<Served>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    allow_method(&context.info, request.method())?;
    authorize_create(&server, context)?;
    admit(&server, context, served, request.headers()).await?;
    let service = Service::of(&context.info, &context.query, request.headers());
    if service == Service::Log {
        return logs::answer(&server, context, served, request).await;
    }
    // A WebSocket that cannot be is refused before anybody else is troubled.
    let handshake = match service {
        Service::Translate(_) | Service::Tunnel => Some(Handshake::of(request.headers())?),
        Service::Log | Service::Pass => None,
    };
    let (target, path) = route::plan(&server, context, served).await?;
    match (service, handshake) {
        (Service::Translate(streams), Some(handshake)) => {
            let node = forward::upgrade(&server, &target, &path, &[remote_command::NODE_PROTOCOL]).await;
            let node = node.inspect_err(|error| server.metrics.translated(error.code()))?;
            handshake.accept(&mut request, Some(remote_command::PROTOCOL), async move |client| {
                server.metrics.translated(remote_command::run(client, node.connection, streams).await);
            })
        }
        (Service::Tunnel, Some(handshake)) => {
            let offered = tunnel::protocols(websocket::protocols(request.headers()));
            let node = forward::upgrade(&server, &target, &path, &offered).await;
            let node = node.inspect_err(|error| server.metrics.tunnelled(error.code()))?;
            server.metrics.tunnelled(StatusCode::SWITCHING_PROTOCOLS.as_u16());
            let protocol = tunnel::protocol(&node.protocol);
            handshake.accept(&mut request, Some(&protocol), move |client| tunnel::run(client, node.connection))
        }
        _ => forward::pass(&server, &target, &path, request).await,
    }
}

/// Asks admission, which sees the options of the connection. Logs are read, not connected to.
async fn admit(server: &Server, context: &Context, served: &Arc<Served>, headers: &HeaderMap) -> Result<(), ApiError> {
    let (info, query) = (&*context.info, &context.query);
    if info.subresource == "log" {
        return Ok(());
    }
    let call = Call {
        server,
        served,
        info,
        query,
        headers,
        user: &context.user,
        warnings: Warnings::default(),
        admitted: Default::default(),
    };
    call.admit_action(Operation::Connect, admitted::connect_options(info, served, query), false).await.map(drop)
}

/// Streams are opened by GET (WebSocket) and POST (SPDY), logs are read; the proxies take every method.
fn allow_method(info: &RequestInfo, method: &Method) -> Result<(), ApiError> {
    let allowed = match info.subresource.as_str() {
        "log" => matches!(*method, Method::GET | Method::HEAD),
        "exec" | "attach" | "portforward" => matches!(*method, Method::GET | Method::POST),
        _ => true,
    };
    let resource = format!("{}/{}", info.resource, info.subresource);
    if allowed { Ok(()) } else { Err(ApiError::method_not_supported(&info.group, &resource, info.verb)) }
}

/// Who opens streams into a pod needs the right to `create` them, also where a WebSocket asks for them with GET (KEP-4006, since
/// Kubernetes 1.35).
fn authorize_create(server: &Server, context: &Context) -> Result<(), ApiError> {
    let info = &context.info;
    if info.verb == "create" || !matches!(info.subresource.as_str(), "exec" | "attach" | "portforward") {
        return Ok(());
    }
    server.check_right(&context.user, info, "create")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(subresource: &str, query: &str, upgrade: &'static str, protocols: &'static str) -> Service {
        let info = RequestInfo { resource: "pods".into(), subresource: subresource.into(), ..RequestInfo::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "Upgrade"), ("upgrade", upgrade), ("sec-websocket-protocol", protocols)] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        Service::of(&info, &Query::parse(Some(query)), &headers)
    }

    #[test]
    fn only_what_kubelets_do_not_know_is_translated() {
        let all = Streams { stdin: true, stdout: true, stderr: false, tty: true };
        let query = "stdin=true&stdout=1&stderr=false&tty=true";
        for (subresource, upgrade, protocols, expected) in [
            ("exec", "websocket", "v5.channel.k8s.io, v4.channel.k8s.io", Service::Translate(all)),
            ("attach", "websocket", "v4.channel.k8s.io, v5.channel.k8s.io", Service::Translate(all)),
            ("exec", "websocket", "v4.channel.k8s.io", Service::Pass),
            ("exec", "websocket", "base64.channel.k8s.io", Service::Pass),
            ("exec", "SPDY/3.1", "v5.channel.k8s.io", Service::Pass),
            ("portforward", "websocket", "SPDY/3.1+portforward.k8s.io", Service::Tunnel),
            ("portforward", "websocket", "v5.channel.k8s.io, v4.channel.k8s.io", Service::Pass),
            ("portforward", "SPDY/3.1", "portforward.k8s.io", Service::Pass),
            ("proxy", "websocket", "v5.channel.k8s.io", Service::Pass),
            ("log", "websocket", "binary.k8s.io", Service::Log),
        ] {
            assert_eq!(
                service(subresource, query, upgrade, protocols),
                expected,
                "{subresource} {upgrade} {protocols}"
            );
        }
    }

    #[test]
    fn streams_are_opened_by_get_and_post_alone() {
        let allowed = |subresource: &str, method| {
            let info =
                RequestInfo { resource: "pods".into(), subresource: subresource.into(), ..RequestInfo::default() };
            allow_method(&info, &method).map_err(|error| error.code())
        };
        assert_eq!(allowed("exec", Method::GET), Ok(()));
        assert_eq!(allowed("portforward", Method::POST), Ok(()));
        assert_eq!(allowed("attach", Method::PUT), Err(405));
        assert_eq!(allowed("log", Method::POST), Err(405));
        assert_eq!(allowed("proxy", Method::DELETE), Ok(()));
    }
}
