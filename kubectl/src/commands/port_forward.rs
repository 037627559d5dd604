//! `port-forward`: local ports that lead into a pod.

use std::io;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::pods;
use crate::error::{Error, Result, usage, wrong_call};
use crate::fields::{self, Fields};
use crate::flags::{duration, limit};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[arg(help = "POD or TYPE/NAME, and [LOCAL:]REMOTE...")]
    arguments: Vec<String>,
    /// Addresses to listen on
    #[arg(long, default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
    /// How long to wait for a pod
    #[arg(long, value_parser = duration, default_value = "1m")]
    pod_running_timeout: SignedDuration,
}

/// A port here and one in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forward {
    local: u16,
    remote: u16,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let [argument, ports @ ..] = options.arguments.as_slice() else { return few_arguments() };
    if ports.is_empty() {
        return few_arguments();
    }
    let target = pods::target(session, argument).await?;
    let object = target.read(&session.client).await?;
    let patience = limit(options.pod_running_timeout).unwrap_or_default();
    let pod = pods::attachable(session, &object, patience).await?;
    let forwards = ports.iter().map(|port| forward(port, &object, &pod)).collect::<Result<Vec<_>>>()?;
    let phase = pod.text("status.phase");
    if phase != "Running" {
        return usage(format!("unable to forward port because pod is not running. Current status={phase}"));
    }
    let addresses = addresses(&options.address)?;
    let pods: Api<Pod> = Api::namespaced(session.client.kube.clone(), fields::namespace(&pod));
    serve(&forwards, &addresses, pods, fields::name(&pod), streams).await
}

fn few_arguments() -> Result<()> {
    wrong_call("kubectl port-forward", "TYPE/NAME and list of ports are required for port-forward")
}

/// What an argument means, of a pod or through a service.
fn forward(text: &str, object: &Value, pod: &Value) -> Result<Forward> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    if remote.is_empty() {
        return usage("remote port cannot be empty");
    }
    if remote.contains(':') {
        return usage(format!("invalid port format '{text}'"));
    }
    if local.bytes().all(|byte| byte.is_ascii_digit()) && !local.is_empty() && local.parse::<u16>().is_err() {
        return usage(format!(
            "error parsing local port '{local}': strconv.ParseUint: parsing \"{local}\": value out of range"
        ));
    }
    let (number, container) = match object.text("kind") {
        "Service" => service_port(remote, object, pod)?,
        _ => {
            let number = pod_port(remote, pod)?;
            (number, number)
        }
    };
    let local = match local {
        "" => 0,
        local if local == remote => number,
        local => match local.parse() {
            Ok(local) => local,
            Err(_) => {
                return usage(format!(
                    "error parsing local port '{local}': strconv.ParseUint: parsing \"{local}\": invalid syntax"
                ));
            }
        },
    };
    match container {
        0 => usage("remote port must be > 0"),
        remote => Ok(Forward { local, remote }),
    }
}

/// A pod's port by number or name.
fn pod_port(port: &str, pod: &Value) -> Result<u16> {
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return match port.parse() {
            Ok(number) => Ok(number),
            Err(_) => usage(format!(
                "error parsing remote port '{port}': strconv.ParseUint: parsing \"{port}\": value out of range"
            )),
        };
    }
    let named = |container: &Value| container.list("ports").iter().find(|one| one.text("name") == port).cloned();
    match pod.list("spec.containers").iter().find_map(named) {
        Some(found) => Ok(number(found.at("containerPort"))),
        None => usage(format!("Pod '{}' does not have a named port '{port}'", fields::name(pod))),
    }
}

fn number(value: &Value) -> u16 {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

/// A service's port by number or name, and the port of the pod that it leads to.
fn service_port(port: &str, service: &Value, pod: &Value) -> Result<(u16, u16)> {
    let (name, ports) = (fields::name(service), service.list("spec.ports"));
    let wanted = match port.parse::<u16>() {
        Ok(number) => number,
        Err(_) => match ports.iter().find(|one| one.text("name") == port) {
            Some(found) => number(found.at("port")),
            None => return usage(format!("Service '{name}' does not have a named port '{port}'")),
        },
    };
    let Some(found) = ports.iter().find(|one| number(one.at("port")) == wanted) else {
        return usage(format!("Service {name} does not have a service port {wanted}"));
    };
    if service.text("spec.clusterIP") == "None" {
        return Ok((wanted, wanted));
    }
    match found.at("targetPort") {
        Value::String(target) => Ok((wanted, pod_port(target, pod)?)),
        target if number(target) == 0 => Ok((wanted, wanted)),
        target => Ok((wanted, number(target))),
    }
}

/// Where to listen; of the two addresses of the host itself one is enough.
#[derive(Debug, PartialEq, Eq)]
struct Listen {
    address: IpAddr,
    optional: bool,
}

fn addresses(texts: &[String]) -> Result<Vec<Listen>> {
    let mut addresses = Vec::new();
    for text in texts {
        match (text.as_str(), text.parse()) {
            ("localhost", _) => addresses.extend(
                [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]
                    .map(|address| Listen { address, optional: true }),
            ),
            (_, Ok(address)) => addresses.push(Listen { address, optional: false }),
            _ => return usage(format!("{text} is not a valid IP")),
        }
    }
    Ok(addresses)
}

async fn serve(
    forwards: &[Forward],
    addresses: &[Listen],
    pods: Api<Pod>,
    pod: &str,
    streams: &mut Streams,
) -> Result<()> {
    // What the tasks have to say is written here, by one.
    let (events, mut told) = mpsc::channel::<Told>(64);
    let mut listening = 0;
    for forward in forwards {
        for listener in listen(*forward, addresses, streams).await? {
            writeln!(streams.out, "Forwarding from {} -> {}", listener.local_addr()?, forward.remote)?;
            tokio::spawn(accept(listener, forward.remote, pods.clone(), pod.to_owned(), events.clone()));
            listening += 1;
        }
    }
    drop(events);
    if listening == 0 {
        let pairs: Vec<String> = forwards.iter().map(|one| format!("{{{} {}}}", one.local, one.remote)).collect();
        return usage(format!("unable to listen on any of the requested ports: [{}]", pairs.join(" ")));
    }
    streams.out.flush()?;
    while let Some(event) = told.recv().await {
        match event {
            Told::Connection(port) => {
                writeln!(streams.out, "Handling connection for {port}")?;
                streams.out.flush()?;
            }
            Told::Broken(why) => writeln!(streams.err, "{why}")?,
        }
    }
    usage("lost connection to pod")
}

async fn listen(forward: Forward, addresses: &[Listen], streams: &mut Streams) -> Result<Vec<TcpListener>> {
    let (mut listeners, mut failures): (Vec<TcpListener>, Vec<String>) = (Vec::new(), Vec::new());
    let mut port = forward.local;
    for Listen { address, optional } in addresses {
        match TcpListener::bind(SocketAddr::new(*address, port)).await {
            Ok(listener) => {
                // A port that was chosen for us is the same on all addresses.
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) => {
                let (family, why) = (if address.is_ipv4() { "tcp4" } else { "tcp6" }, listening_failed(&error));
                let at = SocketAddr::new(*address, port);
                failures.push(format!("unable to create listener: Error listen {family} {at}: {why}"));
                if !optional {
                    listeners.clear();
                    break;
                }
            }
        }
    }
    if listeners.is_empty() {
        writeln!(
            streams.err,
            "Unable to listen on port {}: Listeners failed to create with the following errors: [{}]",
            forward.local,
            failures.join(" ")
        )?;
    }
    Ok(listeners)
}

fn listening_failed(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}

enum Told {
    Connection(u16),
    Broken(String),
}

async fn accept(
    listener: TcpListener,
    remote: u16,
    pods: Api<Pod>,
    pod: String,
    events: mpsc::Sender<Told>,
) -> Result<()> {
    let local = listener.local_addr()?.port();
    loop {
        let (connection, _) = listener.accept().await?;
        if events.send(Told::Connection(local)).await.is_err() {
            return Ok(());
        }
        let (pods, pod, events) = (pods.clone(), pod.clone(), events.clone());
        tokio::spawn(async move {
            if let Err(error) = carry(connection, remote, &pods, &pod).await {
                let why = format!("an error occurred forwarding {local} -> {remote}: {error}");
                // Nobody listens any more when the command is ending.
                events.send(Told::Broken(why)).await.ok();
            }
        });
    }
}

/// One connection, over one of its own to the pod.
async fn carry(mut connection: TcpStream, remote: u16, pods: &Api<Pod>, pod: &str) -> Result<()> {
    let wrong = |why: String| Error::Usage(why);
    let mut forwarder = pods.portforward(pod, &[remote]).await.map_err(|error| wrong(error.to_string()))?;
    let (Some(mut stream), Some(refused)) = (forwarder.take_stream(remote), forwarder.take_error(remote)) else {
        return usage("the server gave no stream");
    };
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut connection, &mut stream) => { copied?; }
        Some(why) = refused => return Err(wrong(format!("error forwarding port {remote} to pod {pod}: {why}"))),
    }
    drop(stream);
    forwarder.join().await.map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}})
    }

    #[test]
    fn ports_are_pairs_or_the_same() {
        let of = |text: &str| {
            forward(text, &pod(), &pod()).map(|one| (one.local, one.remote)).map_err(|error| error.to_string())
        };
        assert_eq!(of("8080:80"), Ok((8080, 80)));
        assert_eq!(of("80"), Ok((80, 80)));
        assert_eq!(of(":80"), Ok((0, 80)));
        assert_eq!(of("http"), Ok((8080, 8080)));
        assert_eq!(of("5:http"), Ok((5, 8080)));
        assert_eq!(of("80:"), Err("remote port cannot be empty".into()));
        assert_eq!(of("0"), Err("remote port must be > 0".into()));
        assert_eq!(of("1:2:3"), Err("invalid port format '1:2:3'".into()));
        assert_eq!(of("foo"), Err("Pod 'p' does not have a named port 'foo'".into()));
    }

    #[test]
    fn a_services_port_leads_to_its_target() {
        let service = json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1", "ports": [
            {"name": "web", "port": 80, "targetPort": "http"}, {"name": "other", "port": 90, "targetPort": 9090}]}});
        let of = |text: &str| {
            forward(text, &service, &pod()).map(|one| (one.local, one.remote)).map_err(|error| error.to_string())
        };
        assert_eq!(of("80"), Ok((80, 8080)));
        assert_eq!(of("web"), Ok((80, 8080)));
        assert_eq!(of("5:90"), Ok((5, 9090)));
        assert_eq!(of("99"), Err("Service s does not have a service port 99".into()));
        assert_eq!(of("x"), Err("Service 's' does not have a named port 'x'".into()));
    }

    #[test]
    fn localhost_has_two_addresses() {
        assert_eq!(addresses(&["localhost".into()]).unwrap().len(), 2);
        assert!(addresses(&["nowhere".into()]).is_err());
    }
}
