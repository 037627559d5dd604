//! An HTTP client that asks one URL again and again, each time on a new connection, and reports every failure: what a
//! rolling update must not cause.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Uri, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::stop;

#[derive(clap::Args)]
pub struct Options {
    #[arg(help = "http://HOST[:PORT]/PATH")]
    url: String,
    /// Requests to make; without it, until SIGTERM or the end of `--seconds`
    #[arg(long)]
    count: Option<u64>,
    /// How long to go on
    #[arg(long)]
    seconds: Option<f64>,
    /// Milliseconds between two requests
    #[arg(long, default_value_t = 10)]
    interval: u64,
    /// Seconds one request may take
    #[arg(long, default_value_t = 2.0)]
    timeout: f64,
    /// Print each answer
    #[arg(long)]
    print: bool,
}

#[derive(Debug, Default)]
struct Report {
    requests: u64,
    failures: u64,
    answers: BTreeMap<String, u64>,
}

/// Exit code 1 when any request failed (no answer in time, or a status of 400 or more).
pub async fn run(options: Options) -> anyhow::Result<i32> {
    let mut report = Report::default();
    tokio::select! {
        () = ask(&options, &mut report) => {}
        stopped = stop::requested() => stopped?,
    }
    println!("{} requests, {} failures", report.requests, report.failures);
    for (answer, times) in &report.answers {
        println!("{times} × {answer}");
    }
    Ok(i32::from(report.failures > 0))
}

async fn ask(options: &Options, report: &mut Report) {
    let (start, timeout) = (Instant::now(), Duration::from_secs_f64(options.timeout));
    let over = |requests| {
        options.count.is_some_and(|count| requests >= count)
            || options.seconds.is_some_and(|seconds| start.elapsed().as_secs_f64() >= seconds)
    };
    while !over(report.requests) {
        let result = get(&options.url, timeout).await;
        report.requests += 1;
        match result {
            Ok((status, body)) if status < 400 => {
                let answer = body.trim().to_owned();
                if options.print {
                    println!("{answer}");
                }
                *report.answers.entry(answer).or_default() += 1;
            }
            failed => {
                report.failures += 1;
                let what = failed.map_or_else(|error| format!("{error:#}"), |(status, _)| format!("status {status}"));
                println!("failed after {:.3} s, request {}: {what}", start.elapsed().as_secs_f64(), report.requests);
            }
        }
        tokio::time::sleep(Duration::from_millis(options.interval)).await;
    }
}

/// One GET over HTTP/1.1 on a connection of its own: the status and the body.
pub async fn get(url: &str, timeout: Duration) -> anyhow::Result<(u16, String)> {
    tokio::time::timeout(timeout, get_now(url)).await.context("no answer in time")?
}

async fn get_now(url: &str) -> anyhow::Result<(u16, String)> {
    let uri: Uri = url.parse()?;
    if uri.scheme_str() != Some("http") {
        bail!("{url}: only http:// is known");
    }
    let authority = uri.authority().context("no host in the URL")?.clone();
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await.context("connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(HOST, authority.as_str()).header("connection", "close");
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
