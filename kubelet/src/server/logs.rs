//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::path::PathBuf;
use std::sync::Arc;

use component_base::serving::{Body, text};
use futures::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio_stream::wrappers::ReceiverStream;

use super::{flag, not_found, query};
use crate::logs::reader::{self, Options};
use crate::pod;
use crate::pods::Pods;
use crate::runtime::State;
use crate::worker::Handle;

/// Pieces that wait for a slow reader.
const PIECES: usize = 4;

fn options(uri: &http::Uri, now: Timestamp) -> Result<Options, String> {
    let number = |key: &str| -> Result<Option<i64>, String> {
        let value = query(uri, key).filter(|value| !value.is_empty());
        value.map(|value| value.parse().map_err(|_| format!("invalid value of {key}: {value:?}"))).transpose()
    };
    let count = |key: &str| -> Result<Option<usize>, String> {
        number(key)?.map(|value| usize::try_from(value).map_err(|_| format!("{key} must not be negative"))).transpose()
    };
    let since_time = query(uri, "sinceTime").filter(|value| !value.is_empty());
    let since_time: Option<Timestamp> = since_time
        .map(|value| value.parse().map_err(|_| format!("invalid value of sinceTime: {value:?}")))
        .transpose()?;
    let since_seconds =
        number("sinceSeconds")?.map(|seconds| now - std::time::Duration::from_secs(seconds.max(0).unsigned_abs()));
    let stderr = match query(uri, "stream").as_deref() {
        None | Some("" | "All") => None,
        Some("Stdout") => Some(false),
        Some("Stderr") => Some(true),
        Some(other) => return Err(format!("invalid value of stream: {other:?}")),
    };
    Ok(Options {
        follow: flag(uri, "follow"),
        tail: count("tailLines")?,
        since: since_time.or(since_seconds),
        timestamps: flag(uri, "timestamps"),
        limit: count("limitBytes")?,
        stderr,
    })
}

/// The log's file, and the id of its container.
fn find(pods: &Pods, handle: &Handle, name: &str, previous: bool) -> Result<(PathBuf, String), String> {
    let pod = Arc::clone(&handle.input.borrow().pod);
    if pod::container(&pod, name).is_none() {
        return Err(format!("container \"{name}\" in pod \"{}\" is not available", pod::name(&pod)));
    }
    let view = handle.shared.view.lock();
    let mut all = view.containers.iter().filter(|container| container.name == name);
    let newest = all.next();
    let chosen = if previous { all.find(|container| container.state == State::Exited) } else { newest };
    let chosen = chosen.ok_or_else(|| match previous {
        true => format!("previous terminated container \"{name}\" in pod \"{}\" not found", pod::name(&pod)),
        false => format!("container \"{name}\" in pod \"{}\" is waiting to start: ContainerCreating", pod::name(&pod)),
    })?;
    let path = if chosen.log_path.is_empty() {
        let directory = pods.agent().logs.join(pod::log_directory_name(&pod));
        directory.join(name).join(format!("{}.log", chosen.attempt))
    } else {
        PathBuf::from(&chosen.log_path)
    };
    Ok((path, chosen.id.clone()))
}

/// Waits until the container has ended, or nobody looks after its pod any more.
async fn ended(handle: Handle, id: String) {
    let mut told = handle.statuses.clone();
    loop {
        told.mark_unchanged();
        let over =
            handle.shared.view.lock().containers.iter().find(|c| c.id == id).is_none_or(|c| c.state == State::Exited);
        if over || told.changed().await.is_err() {
            return;
        }
    }
}

pub fn answer(pods: &Pods, uri: &http::Uri, namespace: &str, pod: &str, container: &str) -> Response<Body> {
    let options = match options(uri, Timestamp::now()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::UNPROCESSABLE_ENTITY, message),
    };
    let Some(handle) = pods.find(namespace, pod) else {
        let mut answer = not_found();
        if let Ok(message) = http::HeaderValue::from_str("pod not found") {
            answer.headers_mut().insert("x-content", message);
        }
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist\n"));
    };
    let (path, id) = match find(pods, &handle, container, flag(uri, "previous")) {
        Ok(found) => found,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES);
    let ended = ended(handle, id);
    tokio::spawn(reader::stream(path, options, sender, ended));
    let frames = ReceiverStream::new(receiver).map(|piece| {
        piece.map(Frame::data).map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>)
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_the_query() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let uri =
            "/x?follow=true&tailLines=3&sinceSeconds=60&timestamps=true&limitBytes=9&stream=Stderr".parse().unwrap();
        let parsed = options(&uri, now).unwrap();
        assert_eq!(parsed.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!((parsed.follow, parsed.tail, parsed.limit, parsed.stderr), (true, Some(3), Some(9), Some(true)));
        for bad in ["/x?tailLines=-1", "/x?tailLines=a", "/x?sinceTime=b", "/x?stream=c"] {
            assert!(options(&bad.parse().unwrap(), now).is_err(), "{bad}");
        }
    }
}
