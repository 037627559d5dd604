//! `logs`: what containers wrote.

use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::pods::{self, Purpose};
use crate::api::{Call, Chunks, Client};
use crate::error::{Error, Result, usage, wrong_call};
use crate::fields::{self, Fields};
use crate::flags::{duration, limit, whole};
use crate::options::Selection;
use crate::resources;
use crate::session::Session;
use crate::streams::Streams;

const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";
/// How many of the last lines are shown of each pod that a selector selects.
const SELECTED_TAIL: i64 = 10;

#[derive(Debug, Args)]
pub struct Options {
    /// POD or TYPE/NAME, and the container
    arguments: Vec<String>,
    /// The container
    #[arg(long, short, default_value = "", hide_default_value = true)]
    container: String,
    /// All containers of the pods
    #[arg(long)]
    all_containers: bool,
    /// All pods of the object
    #[arg(long)]
    all_pods: bool,
    /// Stream the logs
    #[arg(long, short)]
    follow: bool,
    /// The container's instance before this one
    #[arg(long, short)]
    previous: bool,
    /// Only so many of the last lines; -1 is all
    #[arg(long, value_parser = whole)]
    tail: Option<i64>,
    /// Only what is newer than this
    #[arg(long, value_parser = duration)]
    since: Option<SignedDuration>,
    /// Only what is newer than this time
    #[arg(long, default_value = "", hide_default_value = true)]
    since_time: String,
    /// A time stamp before each line
    #[arg(long)]
    timestamps: bool,
    /// Only so many bytes
    #[arg(long, value_parser = whole, default_value_t = 0)]
    limit_bytes: i64,
    /// Pod and container before each line
    #[arg(long)]
    prefix: bool,
    /// Go on with the other logs when one cannot be read
    #[arg(long)]
    ignore_errors: bool,
    /// How many logs may be followed at once
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
    /// Do not verify the identity of the kubelet
    #[arg(long)]
    insecure_skip_tls_verify_backend: bool,
    /// Label query of pods
    #[arg(long, short = 'l', default_value = "", hide_default_value = true)]
    selector: String,
    /// How long to wait for a pod
    #[arg(long, value_parser = duration, default_value = "20s")]
    pod_running_timeout: SignedDuration,
}

/// The log of one container.
#[derive(Debug)]
struct Log {
    call: Call,
    prefix: String,
}

pub async fn run(mut options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    complete(&mut options)?;
    let found = if options.selector.is_empty() {
        of_argument(&options, session).await?
    } else {
        let call = Call::get(format!("/api/v1/namespaces/{}/pods", session.namespace))
            .query("labelSelector", &options.selector);
        match session.client.list(&call, crate::api::CHUNK).await {
            Ok(found) => found,
            Err(error) => {
                let (pods, selector) = (session.find("pods").await?, options.selector.clone());
                return Err(resources::while_selecting(error, &pods, &Selection { selector, ..Selection::default() }));
            }
        }
    };
    if found.is_empty() && !options.selector.is_empty() {
        return Ok(writeln!(streams.err, "No resources found in {} namespace.", session.namespace)?);
    }
    validate(&options)?;
    let pods = match found.as_slice() {
        [object] if object.text("kind") != "Pod" && options.selector.is_empty() => {
            of_object(&options, object, session, streams).await?
        }
        _ => found,
    };
    let mut logs = Vec::new();
    for pod in &pods {
        logs.extend(of_pod(&options, pod, streams)?);
    }
    if options.follow && logs.len() > 1 {
        return follow(&options, logs, &session.client, streams).await;
    }
    for log in logs {
        let copied = match session.client.stream(&log.call).await {
            Ok(chunks) => copy(chunks, &log.prefix, streams).await,
            Err(error) => Err(error),
        };
        match copied {
            Err(error) if options.ignore_errors => writeln!(streams.out, "error: {error}")?,
            other => other?,
        }
    }
    Ok(())
}

fn complete(options: &mut Options) -> Result<()> {
    match (options.arguments.as_slice(), options.selector.is_empty()) {
        ([], true) | ([_, _, _, ..], _) => return wrong_call("kubectl logs", USAGE),
        ([_, ..], false) => return wrong_call("kubectl logs", "only a selector (-l) or a POD name is allowed"),
        ([_, container], true) => {
            if !options.container.is_empty() {
                return usage("only one of -c or an inline [CONTAINER] arg is allowed");
            }
            options.container = container.clone();
        }
        _ => {}
    }
    if !options.since_time.is_empty() && options.since_time.parse::<Timestamp>().is_err() {
        let time = &options.since_time;
        return usage(format!(
            "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {time:?} as \"2006\""
        ));
    }
    if !options.selector.is_empty() && options.tail.is_none() {
        options.tail = Some(SELECTED_TAIL);
    }
    Ok(())
}

fn validate(options: &Options) -> Result<()> {
    if options.all_containers && !options.container.is_empty() {
        return usage(format!(
            "--all-containers=true should not be specified with container name {}",
            options.container
        ));
    }
    if options.tail.is_some_and(|tail| tail < -1) {
        return usage("--tail must be greater than or equal to -1");
    }
    if options.limit_bytes < 0 {
        return usage("--limit-bytes must be greater than 0");
    }
    if options.since.is_some_and(|since| since.is_negative()) {
        return usage("--since must be greater than 0");
    }
    if options.since.is_some_and(|since| !since.is_zero()) && !options.since_time.is_empty() {
        return usage("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    Ok(())
}

/// The object that an argument names.
async fn of_argument(options: &Options, session: &mut Session) -> Result<Vec<Value>> {
    let target = pods::target(session, &options.arguments[0]).await?;
    match target.read(&session.client).await {
        Ok(object) => Ok(vec![object]),
        Err(Error::Server(status)) if status.reason == "NotFound" => {
            let place = if target.namespace.is_empty() {
                String::new()
            } else {
                format!(" in namespace \"{}\"", target.namespace)
            };
            usage(format!("error from server ({}): {}{place}", status.reason, status.message))
        }
        Err(error) => Err(error),
    }
}

/// The pods of an object that has some: the best, or all.
async fn of_object(options: &Options, object: &Value, session: &Session, streams: &mut Streams) -> Result<Vec<Value>> {
    let selector = match pods::selector(object) {
        Ok(selector) => selector,
        Err(why) => return usage(format!("cannot get the logs from {}: {why}", pods::go_type(object))),
    };
    let patience = limit(options.pod_running_timeout).unwrap_or_default();
    let mut found = pods::first_pods(&session.client, fields::namespace(object), &selector, patience).await?;
    pods::sort(&mut found, Purpose::Logs);
    if options.all_pods {
        return Ok(found);
    }
    if found.len() > 1 {
        writeln!(streams.err, "Found {} pods, using pod/{}", found.len(), fields::name(&found[0]))?;
    }
    found.truncate(1);
    Ok(found)
}

/// The logs of a pod that are wanted.
fn of_pod(options: &Options, pod: &Value, streams: &mut Streams) -> Result<Vec<Log>> {
    let name = fields::name(pod);
    if options.all_containers {
        let names = ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"]
            .iter()
            .flat_map(|path| pod.list(path))
            .map(|container| container.text("name"));
        return Ok(names.map(|container| log(options, pod, container)).collect());
    }
    let container = match options.container.as_str() {
        "" => pods::default_container(pod, options.all_pods, &mut streams.err)?.text("name"),
        named if pods::container(pod, named).is_some() => named,
        named => return usage(format!("container {named} is not valid for pod {name}")),
    };
    Ok(vec![log(options, pod, container)])
}

fn log(options: &Options, pod: &Value, container: &str) -> Log {
    let (namespace, name) = (fields::namespace(pod), fields::name(pod));
    let flag = |on: bool| if on { "true" } else { "" };
    let number = |value: i64| if value > 0 { value.to_string() } else { String::new() };
    let since = options.since.map_or(0, |since| since.as_secs() + i64::from(since.subsec_nanos() > 0));
    let tail = options.tail.filter(|tail| *tail >= 0).map(|tail| tail.to_string()).unwrap_or_default();
    let call = Call::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/log"))
        .accept("application/json, */*")
        .query("container", container)
        .query("follow", flag(options.follow))
        .query("insecureSkipTLSVerifyBackend", flag(options.insecure_skip_tls_verify_backend))
        .query("limitBytes", number(options.limit_bytes))
        .query("previous", flag(options.previous))
        .query("sinceSeconds", number(since))
        .query("sinceTime", &options.since_time)
        .query("tailLines", tail)
        .query("timestamps", flag(options.timestamps));
    let prefix = if options.prefix { format!("[pod/{name}/{container}] ") } else { String::new() };
    Log { call, prefix }
}

/// Writes a log as it comes.
async fn copy(mut chunks: Chunks, prefix: &str, streams: &mut Streams) -> Result<()> {
    if prefix.is_empty() {
        while let Some(chunk) = chunks.next().await? {
            streams.out.write_all(&chunk)?;
            streams.out.flush()?;
        }
        return Ok(());
    }
    while let Some(line) = chunks.line().await? {
        streams.out.write_all(prefix.as_bytes())?;
        streams.out.write_all(&line)?;
        streams.out.flush()?;
    }
    Ok(())
}

/// Writes the lines of several logs as they come.
async fn follow(options: &Options, logs: Vec<Log>, client: &Client, streams: &mut Streams) -> Result<()> {
    if logs.len() > options.max_log_requests {
        return usage(format!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
            logs.len(),
            options.max_log_requests
        ));
    }
    let mut open = FuturesUnordered::new();
    for log in logs {
        match client.stream(&log.call).await {
            Ok(chunks) => open.push(next_line(chunks, log.prefix)),
            Err(error) if options.ignore_errors => writeln!(streams.out, "error: {error}")?,
            Err(error) => return Err(error),
        }
    }
    while let Some((line, chunks, prefix)) = open.next().await {
        match line {
            Ok(Some(line)) => {
                streams.out.write_all(prefix.as_bytes())?;
                streams.out.write_all(&line)?;
                streams.out.flush()?;
                open.push(next_line(chunks, prefix));
            }
            Ok(None) => {}
            Err(error) if options.ignore_errors => writeln!(streams.out, "error: {error}")?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn next_line(mut chunks: Chunks, prefix: String) -> (Result<Option<Vec<u8>>>, Chunks, String) {
    let line = chunks.line().await;
    (line, chunks, prefix)
}
