//! Where a connect request goes: to the kubelet, or to the pod or the endpoint of a Service, and with which path and query there.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::{GroupResource, Reader};
use serde_json::Value;

use crate::endpoints::read;
use crate::kubelet::Endpoint;
use crate::request::Query;
use crate::served::Served;
use crate::server::{Context, Server};

/// Where a request is sent on to.
#[derive(Debug)]
pub enum Target {
    Kubelet(Endpoint),
    /// Plain HTTP, to a pod or the endpoint of a Service.
    Plain {
        host: String,
        port: u16,
    },
}

/// Where the request goes, and with which path and query.
pub async fn plan(server: &Server, context: &Context, served: &Arc<Served>) -> Result<(Target, String), ApiError> {
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

/// Exec, attach and port-forward of a pod, as the kubelet serves them.
async fn pod_stream(
    server: &Server,
    context: &Context,
    served: &Arc<Served>,
    subresource: &str,
) -> Result<(Target, String), ApiError> {
    let info = &context.info;
    let pod = read::get(&server.store, served, &info.namespace, &info.name, &Query::default()).await?.to_value();
    let path = match subresource {
        "portforward" => port_forward_path(&info.namespace, &info.name, &context.query)?,
        verb => {
            let container = container(&pod, context.query.get("container"), subresource)?;
            command_path(verb, &info.namespace, &info.name, &container, &context.query)
        }
    };
    let unassigned = || ApiError::bad_request(format!("pod {} does not have a host assigned", info.name));
    let node = node(&pod).ok_or_else(unassigned)?;
    Ok((Target::Kubelet(server.kubelet.endpoint_of(node)?), path))
}

/// A container's log at its kubelet; `None` where the pod has no node yet.
pub async fn log(
    server: &Server,
    context: &Context,
    served: &Arc<Served>,
) -> Result<Option<(Target, String)>, ApiError> {
    let info = &context.info;
    let pod = read::get(&server.store, served, &info.namespace, &info.name, &Query::default()).await?.to_value();
    let container = container(&pod, context.query.get("container"), "log")?;
    let Some(node) = node(&pod) else { return Ok(None) };
    let path = format!("/containerLogs/{}/{}/{container}", info.namespace, info.name);
    let path = with_query(&path, &context.query, &["container"]);
    Ok(Some((Target::Kubelet(server.kubelet.endpoint_of(node)?), path)))
}

fn node(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())
}

/// The kubelet takes the streams as `input`, `output`, `error`, as it always has.
fn command_path(verb: &str, namespace: &str, name: &str, container: &str, query: &Query) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    out.extend_pairs(query.all("command").map(|word| ("command", word)));
    let streams = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    out.extend_pairs(streams.iter().filter(|(name, _)| query.flag(name)).map(|(_, kubelet)| (kubelet, "1")));
    format!("/{verb}/{namespace}/{name}/{container}?{}", out.finish())
}

/// The kubelet takes the ports as one list, `port`.
fn port_forward_path(namespace: &str, name: &str, query: &Query) -> Result<String, ApiError> {
    let ports = query.all("ports").flat_map(|list| list.split(',')).filter(|port| !port.is_empty());
    let invalid = |port: &str| ApiError::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax"));
    let ports = ports.map(|port| port.parse::<i32>().map_err(|_| invalid(port))).collect::<Result<Vec<_>, _>>()?;
    let path = format!("/portForward/{namespace}/{name}");
    if ports.is_empty() {
        return Ok(path);
    }
    let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
    Ok(format!("{path}?port={}", list.join(",")))
}

/// The container that is meant: the named one, the default one, or the only one.
fn container(pod: &Value, wanted: &str, subresource: &str) -> Result<String, ApiError> {
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

    #[test]
    fn the_kubelet_gets_its_own_names_of_options() {
        let query = |text| Query::parse(Some(text));
        let path = command_path(
            "exec",
            "ns",
            "p",
            "c",
            &query("command=sh&command=-c&command=a+%26+b&stdin=true&stdout=false&tty=1"),
        );
        assert_eq!(path, "/exec/ns/p/c?command=sh&command=-c&command=a+%26+b&input=1&tty=1");
        let forward = |text| port_forward_path("ns", "p", &query(text)).map_err(|error| error.code());
        assert_eq!(forward(""), Ok("/portForward/ns/p".into()));
        assert_eq!(forward("ports=80,443&ports=8080"), Ok("/portForward/ns/p?port=80,443,8080".into()));
        assert_eq!(forward("ports=http"), Err(400));
    }
}
