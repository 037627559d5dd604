//! Logs, exec, attach, port-forward and the proxies: the request goes to the kubelet (or to the pod or Service), and what comes
//! back, a body or an upgraded connection, goes to the client unchanged.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::{GroupResource, Reader};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::body::Body;
use crate::endpoints::read;
use crate::kubelet::Endpoint;
use crate::request::Query;
use crate::served::Served;
use crate::server::{Context, Server};

/// Headers that belong to one connection and do not travel further (RFC 9110, 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where a request is sent on to.
enum Target {
    Kubelet(Endpoint),
    /// Plain HTTP, to a pod or the endpoint of a Service.
    Plain {
        host: String,
        port: u16,
    },
}

/// Answers a connect request.
pub async fn answer(
    server: Arc<Server>,
    context: &Context,
    served: &Arc<Served>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let (target, path) = plan(&server, context, served).await?;
    send(&server, target, &path, request).await
}

/// Where the request goes, and with which path and query.
async fn plan(server: &Server, context: &Context, served: &Arc<Served>) -> Result<(Target, String), ApiError> {
    let info = &context.info;
    match (served.resource.resource.as_str(), info.subresource.as_str()) {
        ("nodes", "proxy") => {
            let (node, _) = split_name(&info.name);
            let path = with_query(if info.tail.is_empty() { "/" } else { &info.tail }, &context.query, &[]);
            Ok((Target::Kubelet(server.kubelet.endpoint_of(node.1)?), path))
        }
        ("pods", "proxy") => {
            let (name, port) = split_name(&info.name);
            let pod = read::get(&server.store, served, &info.namespace, name.1, &Query::default()).await?.to_value();
            let host = pod["status"]["podIP"].as_str().filter(|ip| !ip.is_empty());
            let host = host.ok_or_else(|| ApiError::unavailable(format!("pod {:?} has no address yet", name.1)))?;
            let target = Target::Plain { host: host.to_owned(), port: pod_port(&pod, port)? };
            Ok((target, proxied_path(context)))
        }
        ("services", "proxy") => {
            let (name, port) = split_name(&info.name);
            let (host, port) = service_endpoint(server, &info.namespace, name.1, port)?;
            Ok((Target::Plain { host, port }, proxied_path(context)))
        }
        ("pods", subresource) => pod_stream(server, context, served, subresource).await,
        _ => Err(ApiError::no_such_resource()),
    }
}

/// `https:name:port` into the name and the port.
fn split_name(text: &str) -> ((&str, &str), &str) {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [scheme, name, port] => ((scheme, name), port),
        [name, port] => (("", name), port),
        _ => (("", text), ""),
    }
}

fn proxied_path(context: &Context) -> String {
    let tail = &context.info.tail;
    with_query(if tail.is_empty() { "/" } else { tail }, &context.query, &[])
}

fn with_query(path: &str, query: &Query, without: &[&str]) -> String {
    let text = query.encode(without);
    if text.is_empty() { path.to_owned() } else { format!("{path}?{text}") }
}

fn pod_port(pod: &Value, wanted: &str) -> Result<u16, ApiError> {
    let ports = || {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        containers.flat_map(|container| container["ports"].as_array().into_iter().flatten())
    };
    if let Ok(number) = wanted.parse() {
        return Ok(number);
    }
    let found = ports()
        .find(|port| wanted.is_empty() || port["name"] == wanted)
        .and_then(|port| port["containerPort"].as_u64());
    match (found, wanted) {
        (Some(port), _) => Ok(port as u16),
        (None, "") => Ok(80),
        (None, name) => Err(ApiError::bad_request(format!("the pod has no port named {name:?}"))),
    }
}

/// A ready endpoint of a Service's port, chosen at random.
fn service_endpoint(server: &Server, namespace: &str, name: &str, wanted: &str) -> Result<(String, u16), ApiError> {
    use rand::seq::IteratorRandom;
    let service = server.store.get(GroupResource::new("", "services"), namespace, name);
    let service = service.ok_or_else(|| ApiError::not_found("", "services", name))?;
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = match wanted {
        "" => ports.next(),
        wanted => {
            let number = wanted.parse::<u64>().ok();
            ports.find(|port| port["name"] == wanted || (number.is_some() && port["port"].as_u64() == number))
        }
    };
    let port =
        port.ok_or_else(|| ApiError::unavailable(format!("no service port {wanted:?} found for service {name:?}")))?;
    let port_name = port["name"].as_str().unwrap_or_default();
    let slices = server.store.list(GroupResource::new("discovery.k8s.io", "endpointslices"), Some(namespace));
    let candidates = slices
        .iter()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name)
        .flat_map(|slice| {
            let found = slice["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|p| p["name"].as_str().unwrap_or_default() == port_name);
            let number = found.and_then(|port| port["port"].as_u64());
            let ready =
                slice["endpoints"].as_array().into_iter().flatten().filter(|e| e["conditions"]["ready"] != false);
            let addresses = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str());
            addresses
                .filter_map(move |address| number.map(|number| (address.to_owned(), number as u16)))
                .collect::<Vec<_>>()
        });
    candidates
        .choose(&mut rand::rng())
        .ok_or_else(|| ApiError::unavailable(format!("no endpoints available for service {name:?}")))
}

/// Logs, exec, attach and port-forward of a pod, as the kubelet serves them.
async fn pod_stream(
    server: &Server,
    context: &Context,
    served: &Arc<Served>,
    subresource: &str,
) -> Result<(Target, String), ApiError> {
    let info = &context.info;
    let pod = read::get(&server.store, served, &info.namespace, &info.name, &Query::default()).await?.to_value();
    let container = container(&pod, context.query.get("container"), subresource)?;
    let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| ApiError::bad_request(format!("pod {} does not have a host assigned", info.name)))?;
    let (namespace, name) = (&info.namespace, &info.name);
    let query = &context.query;
    let path = match subresource {
        "log" => with_query(&format!("/containerLogs/{namespace}/{name}/{container}"), query, &["container"]),
        "portforward" => with_query(&format!("/portForward/{namespace}/{name}"), query, &[]),
        // The kubelet takes the streams as `input`, `output`, `error`, as it always has.
        verb => {
            let streams = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
            let asked = streams.iter().filter(|(name, _)| query.flag(name)).map(|(_, kubelet)| format!("{kubelet}=1"));
            let command = query.all("command").map(|word| {
                let encoded: String = form_urlencoded::byte_serialize(word.as_bytes()).collect();
                format!("command={encoded}")
            });
            let all: Vec<String> = command.chain(asked).collect();
            format!("/{verb}/{namespace}/{name}/{container}?{}", all.join("&"))
        }
    };
    Ok((Target::Kubelet(server.kubelet.endpoint_of(node)?), path))
}

/// The container that is meant: the named one, the default one, or the only one.
fn container(pod: &Value, wanted: &str, subresource: &str) -> Result<String, ApiError> {
    if subresource == "portforward" {
        return Ok(String::new());
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |list: &str| -> Vec<&str> {
        pod["spec"][list].as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
    };
    let (main, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if wanted.is_empty() {
        let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
        return match (main.as_slice(), default.filter(|default| main.contains(default))) {
            ([only], _) => Ok((*only).to_owned()),
            (_, Some(default)) if subresource != "log" => Ok(default.to_owned()),
            _ => {
                let mut message =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(ApiError::bad_request(message))
            }
        };
    }
    if [&main, &init, &ephemeral].iter().any(|list| list.contains(&wanted)) {
        return Ok(wanted.to_owned());
    }
    Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}")))
}

async fn send(
    server: &Server,
    target: Target,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    match target {
        Target::Kubelet(endpoint) => {
            let host = format!("{}:{}", endpoint.host, endpoint.port);
            exchange(server.kubelet.connect(&endpoint).await?, &host, path, request).await
        }
        Target::Plain { host, port } => {
            let stream = TcpStream::connect((host.as_str(), port)).await;
            let stream = stream.map_err(|error| {
                ApiError::unavailable(format!("error trying to reach service: dial tcp {host}:{port}: {error}"))
            })?;
            exchange(TokioIo::new(stream), &format!("{host}:{port}"), path, request).await
        }
    }
}

/// Sends the request over a connection of its own, and relays what comes back.
async fn exchange<S>(
    stream: S,
    host: &str,
    path: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| ApiError::unavailable(format!("error trying to reach service: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a backend ended with an error");
        }
    });
    let client_side = hyper::upgrade::on(&mut request);
    let outgoing = outgoing(host, path, request)?;
    let upgrading = outgoing.headers().contains_key(UPGRADE);
    let mut response = sender.send_request(outgoing).await.map_err(failed)?;
    if upgrading && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend_side = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            match tokio::try_join!(client_side, backend_side) {
                Ok((client, backend)) => {
                    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
                        tracing::debug!(%error, "an upgraded connection ended with an error");
                    }
                }
                Err(error) => tracing::debug!(%error, "an upgrade failed"),
            }
        });
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, Body::empty()));
    }
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    let stream = body.into_data_stream();
    let stream =
        futures::StreamExt::map(stream, |piece: Result<Bytes, hyper::Error>| piece.map_err(std::io::Error::other));
    // The sender lives as long as the body: dropping it would close the connection.
    let stream = futures::StreamExt::map(stream, move |piece| {
        let _alive = &sender;
        piece
    });
    Ok(Response::from_parts(head, Body::stream(stream)))
}

fn outgoing(host: &str, path: &str, request: Request<Incoming>) -> Result<Request<Incoming>, ApiError> {
    let (mut head, body) = request.into_parts();
    let upgrade = head.headers.get(UPGRADE).cloned();
    strip(&mut head.headers);
    if let Some(protocol) = upgrade {
        head.headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
        head.headers.insert(UPGRADE, protocol);
    }
    head.headers.insert(HOST, host.parse().map_err(ApiError::internal)?);
    head.uri = path.parse::<PathAndQuery>().map_err(ApiError::internal)?.into();
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    Ok(Request::from_parts(head, body))
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_proxies_carry_a_scheme_and_a_port() {
        assert_eq!(split_name("web"), (("", "web"), ""));
        assert_eq!(split_name("web:80"), (("", "web"), "80"));
        assert_eq!(split_name("https:web:http"), (("https", "web"), "http"));
    }

    #[test]
    fn a_container_is_found_or_the_choice_is_named() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&pod, "i", "log").ok().as_deref(), Some("i"));
        let error = container(&pod, "", "log").expect_err("two containers");
        assert!(error.to_string().contains("[a b] or one of the init containers: [i]"), "{error}");
        assert_eq!(container(&pod, "x", "exec").expect_err("unknown").code(), 400);
    }
}
