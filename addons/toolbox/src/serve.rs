//! An HTTP server that tells who it is, and that fails, answers late or exits on request. On SIGTERM it goes on serving
//! for `--drain` seconds (so that the pod can leave its Services), then finishes what it has begun.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{net::TcpListener, sync::Notify};

use crate::stop;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[arg(long, default_value = "::")]
    address: std::net::IpAddr,
    /// Seconds of healthy answers before `/healthz` and `/readyz` fail by themselves
    #[arg(long)]
    fail_after: Option<f64>,
    /// Seconds before `/readyz` succeeds
    #[arg(long, default_value_t = 0.0)]
    ready_after: f64,
    /// Seconds to go on serving after SIGTERM
    #[arg(long, default_value_t = 0.0)]
    drain: f64,
    /// Text that `/` answers with, after the host's name
    #[arg(long)]
    message: Option<String>,
}

/// What requests can change.
struct State {
    message: Option<String>,
    healthy: AtomicBool,
    ready: AtomicBool,
    exit_code: AtomicI32,
    exit: Notify,
}

const MOST_ECHO_BYTES: usize = 16 << 20;
const DRAIN_LIMIT: Duration = Duration::from_secs(25);

pub async fn run(options: Options) -> anyhow::Result<i32> {
    let listener = TcpListener::bind((options.address, options.port)).await?;
    println!("serving on {}", listener.local_addr()?);
    let state = Arc::new(State {
        message: options.message,
        healthy: AtomicBool::new(true),
        ready: AtomicBool::new(options.ready_after == 0.0),
        exit_code: AtomicI32::new(0),
        exit: Notify::new(),
    });
    schedule(&state, options.ready_after, options.fail_after);
    let drain = Duration::from_secs_f64(options.drain);
    let end = {
        let state = state.clone();
        async move {
            tokio::select! {
                stopped = stop::requested() => { stopped?; tokio::time::sleep(drain).await }
                () = state.exit.notified() => {}
            }
            std::io::Result::Ok(())
        }
    };
    serve(listener, state.clone(), end).await?;
    Ok(state.exit_code.load(Ordering::Relaxed))
}

fn schedule(state: &Arc<State>, ready_after: f64, fail_after: Option<f64>) {
    if ready_after > 0.0 {
        let state = state.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs_f64(ready_after)).await;
            state.ready.store(true, Ordering::Relaxed);
        });
    }
    if let Some(after) = fail_after {
        let state = state.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs_f64(after)).await;
            state.healthy.store(false, Ordering::Relaxed);
        });
    }
}

async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    end: impl Future<Output = std::io::Result<()>>,
) -> anyhow::Result<()> {
    let (graceful, builder) = (GracefulShutdown::new(), Builder::new(TokioExecutor::new()));
    tokio::pin!(end);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            ended = &mut end => { ended?; break }
        };
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(answer(request, peer, &state).await) }
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("{peer}: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        eprintln!("ended with requests still open");
    }
    Ok(())
}

async fn answer(request: Request<Incoming>, peer: SocketAddr, state: &State) -> Response<Full<Bytes>> {
    let query = parse_query(request.uri().query().unwrap_or_default());
    match request.uri().path() {
        "/" => text(match &state.message {
            Some(message) => format!("{} {message}\n", host_name()),
            None => format!("{}\n", host_name()),
        }),
        "/hostname" => text(host_name()),
        "/clientip" => text(peer.ip().to_canonical().to_string()),
        "/healthz" => health(state.healthy.load(Ordering::Relaxed)),
        "/readyz" => health(state.healthy.load(Ordering::Relaxed) && state.ready.load(Ordering::Relaxed)),
        "/fail" => set(&state.healthy, false),
        "/recover" => set(&state.healthy, true),
        "/unready" => set(&state.ready, false),
        "/ready" => set(&state.ready, true),
        "/slow" => slow(&query).await,
        "/env" => text(std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect::<String>()),
        "/file" => file(&query).await,
        "/exit" => {
            state.exit_code.store(query.get("code").and_then(|code| code.parse().ok()).unwrap_or(0), Ordering::Relaxed);
            state.exit.notify_one();
            text("exiting\n")
        }
        "/echo" => echo(request).await,
        _ => status(StatusCode::NOT_FOUND, "not found\n"),
    }
}

async fn slow(query: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
    let Some(seconds) = query.get("seconds").map_or(Some(1.0), |seconds| seconds.parse().ok()) else {
        return status(StatusCode::BAD_REQUEST, "seconds is a number\n");
    };
    tokio::time::sleep(Duration::from_secs_f64(f64::clamp(seconds, 0.0, 600.0))).await;
    text(host_name())
}

async fn file(query: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
    let Some(path) = query.get("path") else { return status(StatusCode::BAD_REQUEST, "which path?\n") };
    match tokio::fs::read(path).await {
        Ok(contents) => Response::new(Full::new(contents.into())),
        Err(error) => status(StatusCode::NOT_FOUND, format!("{error}\n")),
    }
}

async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match http_body_util::Limited::new(request.into_body(), MOST_ECHO_BYTES).collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes())),
        Err(error) => status(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")),
    }
}

fn set(flag: &AtomicBool, value: bool) -> Response<Full<Bytes>> {
    flag.store(value, Ordering::Relaxed);
    text("done\n")
}

fn health(good: bool) -> Response<Full<Bytes>> {
    if good { text("ok\n") } else { status(StatusCode::INTERNAL_SERVER_ERROR, "failing\n") }
}

fn text(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    status(StatusCode::OK, body)
}

fn status(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// `a=1&b=2`, without percent decoding: paths and numbers need none.
fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The name of this host: in a pod, the pod's.
pub fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|error| format!("({error})"), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::get;

    async fn start() -> (SocketAddr, Arc<Notify>, tokio::task::JoinHandle<anyhow::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let state = Arc::new(State {
            message: None,
            healthy: AtomicBool::new(true),
            ready: AtomicBool::new(true),
            exit_code: AtomicI32::new(0),
            exit: Notify::new(),
        });
        let end = stop.clone();
        let task = tokio::spawn(serve(listener, state, async move {
            end.notified().await;
            Ok(())
        }));
        (address, stop, task)
    }

    async fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
        get(&format!("http://{address}{path}"), Duration::from_secs(5)).await.unwrap()
    }

    #[tokio::test]
    async fn it_tells_its_host_name_and_who_asks() {
        let (address, _stop, _task) = start().await;
        assert_eq!(fetch(address, "/hostname").await, (200, host_name()));
        assert_eq!(fetch(address, "/clientip").await, (200, "127.0.0.1".into()));
        assert_eq!(fetch(address, "/nothing").await.0, 404);
    }

    #[tokio::test]
    async fn health_and_readiness_fail_and_recover_on_request() {
        let (address, _stop, _task) = start().await;
        fetch(address, "/unready").await;
        assert_eq!((fetch(address, "/healthz").await.0, fetch(address, "/readyz").await.0), (200, 500));
        fetch(address, "/fail").await;
        assert_eq!(fetch(address, "/healthz").await.0, 500);
        fetch(address, "/recover").await;
        fetch(address, "/ready").await;
        assert_eq!((fetch(address, "/healthz").await.0, fetch(address, "/readyz").await.0), (200, 200));
    }

    #[tokio::test]
    async fn a_request_that_was_begun_is_answered_after_the_end_was_asked_for() {
        let (address, stop, task) = start().await;
        let slow = tokio::spawn(async move { fetch(address, "/slow?seconds=0.3").await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.notify_one();
        assert_eq!(slow.await.unwrap(), (200, host_name()));
        task.await.unwrap().unwrap();
        assert!(get(&format!("http://{address}/"), Duration::from_secs(1)).await.is_err());
    }
}
