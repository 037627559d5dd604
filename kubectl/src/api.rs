//! Requests to the server over untyped objects, and watches that wait for a state.

use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt};
use http::Request;
use kube::Client;
use serde_json::Value;

use crate::discovery::Resource;
use crate::error::{Error, Result};

/// One request in the making.
pub struct Call {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    accept: &'static str,
    content: Option<(&'static str, Vec<u8>)>,
}

impl Call {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), accept: "application/json", content: None }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self { content: Some(("application/json", body.to_string().into_bytes())), ..Self::new("POST", path) }
    }

    pub fn delete(path: impl Into<String>, options: &Value) -> Self {
        Self { content: Some(("application/json", options.to_string().into_bytes())), ..Self::new("DELETE", path) }
    }

    /// `kind` is the patch's media type.
    pub fn patch(path: impl Into<String>, kind: &'static str, body: &Value) -> Self {
        Self { content: Some((kind, body.to_string().into_bytes())), ..Self::new("PATCH", path) }
    }

    #[must_use]
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    #[must_use]
    pub fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.query.push((key.to_owned(), value));
        }
        self
    }

    fn build(self) -> Result<Request<Vec<u8>>> {
        let mut uri = self.path;
        for (index, (key, value)) in self.query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.push_str(key);
            uri.push('=');
            escape(&mut uri, value);
        }
        let mut request = Request::builder().method(self.method).uri(uri).header("Accept", self.accept);
        let body = match self.content {
            Some((kind, body)) => {
                request = request.header("Content-Type", kind);
                body
            }
            None => Vec::new(),
        };
        request.body(body).map_err(|error| Error::Usage(error.to_string()))
    }
}

fn escape(uri: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Sends a request and reads the answer as JSON.
pub async fn get(client: &Client, call: Call) -> Result<Value> {
    Ok(client.request(call.build()?).await?)
}

/// Sends a request and reads the answer as it comes.
pub async fn stream(client: &Client, call: Call) -> Result<impl AsyncBufRead + Unpin + use<>> {
    Ok(Box::pin(client.request_stream(call.build()?).await?))
}

/// The next event of a watch; `None` at its end.
pub async fn next_event(lines: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Value>> {
    let mut line = String::new();
    if lines.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(|error| Error::Usage(error.to_string()))
}

/// One object and where it lives.
#[derive(Debug, Clone)]
pub struct Target {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
}

impl Target {
    pub fn path(&self) -> String {
        self.resource.path(Some(&self.namespace), Some(&self.name))
    }

    /// `deployment.apps/web`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.resource.singular_with_group(), self.name)
    }

    pub async fn read(&self, client: &Client) -> Result<Value> {
        get(client, Call::get(self.path())).await
    }
}

/// Watches an object, gone or not, until `decide` says that it is as wished; `false` when the time is over first.
pub async fn wait_until(
    client: &Client,
    target: &Target,
    timeout: Option<Duration>,
    mut decide: impl FnMut(Option<&Value>) -> Result<bool>,
) -> Result<bool> {
    let watching = watch_until(client, target, &mut decide);
    match timeout {
        None => watching.await.map(|()| true),
        Some(timeout) => match tokio::time::timeout(timeout, watching).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        },
    }
}

async fn watch_until(
    client: &Client,
    target: &Target,
    decide: &mut impl FnMut(Option<&Value>) -> Result<bool>,
) -> Result<()> {
    let selector = format!("metadata.name={}", target.name);
    let path = target.resource.path(Some(&target.namespace), None);
    loop {
        let list = get(client, Call::get(&path).query("fieldSelector", &selector)).await?;
        if decide(list["items"].get(0))? {
            return Ok(());
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let call = Call::get(&path).query("fieldSelector", &selector).query("watch", "true");
        let mut events = stream(client, call.query("resourceVersion", version)).await?;
        while let Some(event) = next_event(&mut events).await? {
            let done = match event["type"].as_str() {
                Some("DELETED") => decide(None)?,
                Some("ADDED" | "MODIFIED") => decide(Some(&event["object"]))?,
                Some("ERROR") => break,
                _ => false,
            };
            if done {
                return Ok(());
            }
        }
    }
}
