//! `logs`: what a container wrote.

use std::time::Duration;

use clap::Args;
use futures::io::AsyncReadExt;

use crate::api::{self, Call};
use crate::error::{Result, usage};
use crate::options::duration;
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// POD or TYPE/NAME
    target: String,
    /// The container
    container_name: Option<String>,
    /// The container
    #[arg(long, short)]
    container: Option<String>,
    /// Stream the logs
    #[arg(long, short)]
    follow: bool,
    /// The container's instance before this one
    #[arg(long, short)]
    previous: bool,
    /// Only so many of the last lines; -1 is all
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,
    /// Only what is newer than this
    #[arg(long, value_parser = duration)]
    since: Option<Duration>,
    /// A time stamp before each line
    #[arg(long)]
    timestamps: bool,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let pod = super::pod_of(session, &options.target).await?;
    let resource = session.discovery().await?.find("pods")?.clone();
    let path = resource.path(Some(&session.namespace), Some(&pod));
    let container = match options.container.or(options.container_name) {
        Some(container) => container,
        None => default_container(session, &path, &pod, streams).await?,
    };
    let flag = |on: bool| if on { "true" } else { "" };
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let call = Call::get(format!("{path}/log"))
        .accept("*/*")
        .query("container", container)
        .query("follow", flag(options.follow))
        .query("previous", flag(options.previous))
        .query("timestamps", flag(options.timestamps))
        .query("tailLines", number(u64::try_from(options.tail).ok()))
        .query("sinceSeconds", number(options.since.map(|since| since.as_secs().max(1))));
    let mut lines = api::stream(&session.client, call).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = lines.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        streams.out.write_all(&buffer[..length])?;
        streams.out.flush()?;
    }
}

/// The container that is meant when none is named: the annotated one, else the first, which is told when there are more.
async fn default_container(session: &Session, path: &str, pod: &str, streams: &mut Streams) -> Result<String> {
    let object = api::get(&session.client, Call::get(path)).await?;
    if let Some(name) = object["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str() {
        return Ok(name.to_owned());
    }
    let names = |key: &str| -> Vec<String> {
        let containers = object["spec"][key].as_array().into_iter().flatten();
        containers.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let containers = names("containers");
    let Some(first) = containers.first() else {
        return usage(format!("pod {pod} has no containers"));
    };
    let init = names("initContainers").into_iter().map(|name| format!("{name} (init)"));
    let all: Vec<String> = containers.iter().cloned().chain(init).collect();
    if all.len() > 1 {
        writeln!(streams.err, "Defaulted container \"{first}\" out of: {}", all.join(", "))?;
    }
    Ok(first.clone())
}
