//! `port-forward`: local ports that lead into a pod.

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result, usage};
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// POD or TYPE/NAME
    target: String,
    /// [LOCAL:]REMOTE
    #[arg(required = true)]
    ports: Vec<String>,
    /// The local address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let ports = options.ports.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let pod = super::pod_of(session, &options.target).await?;
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    pods.get(&pod).await?;
    let mut listening = Vec::new();
    for (local, remote) in ports {
        let address = if options.address == "localhost" { "127.0.0.1" } else { options.address.as_str() };
        let listener = TcpListener::bind((address, local)).await.map_err(|error| {
            Error::Usage(format!("unable to listen on any of the requested ports: [{{{local} {remote}}}]: {error}"))
        })?;
        writeln!(streams.out, "Forwarding from {} -> {remote}", listener.local_addr()?)?;
        listening.push(accept(listener, remote, pods.clone(), pod.clone()));
    }
    streams.out.flush()?;
    futures::future::try_join_all(listening).await.map(|_| ())
}

fn parse(text: &str) -> Result<(u16, u16)> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let local = if local.is_empty() { "0" } else { local };
    match (local.parse(), remote.parse()) {
        (Ok(local), Ok(remote)) if remote != 0 => Ok((local, remote)),
        _ => usage(format!("invalid port mapping \"{text}\"")),
    }
}

async fn accept(listener: TcpListener, remote: u16, pods: Api<Pod>, pod: String) -> Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        let (pods, pod) = (pods.clone(), pod.clone());
        tokio::spawn(async move {
            if let Err(error) = carry(connection, remote, &pods, &pod).await {
                eprintln!("error forwarding port {remote} to pod {pod}: {error}");
            }
        });
    }
}

async fn carry(mut connection: TcpStream, remote: u16, pods: &Api<Pod>, pod: &str) -> Result<()> {
    let mut forwarder = pods.portforward(pod, &[remote]).await?;
    let Some(mut stream) = forwarder.take_stream(remote) else {
        return usage("the server gave no stream");
    };
    tokio::io::copy_bidirectional(&mut connection, &mut stream).await?;
    drop(stream);
    forwarder.join().await.map_err(|error| Error::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_pairs_or_the_same() {
        assert_eq!(parse("8080:80").unwrap(), (8080, 80));
        assert_eq!(parse("80").unwrap(), (80, 80));
        assert_eq!(parse(":80").unwrap(), (0, 80));
        assert!(parse("a:80").is_err());
    }
}
