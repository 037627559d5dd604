//! Requests to the server over untyped objects.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use apimachinery::status::Status;

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::warnings::Warnings;

/// Where a list is cut when nobody says otherwise.
pub const CHUNK: u64 = 500;
/// How often a server that is too busy is asked again.
const RETRIES: usize = 10;

pub const JSON_PATCH: &str = "application/json-patch+json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
pub const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// One request in the making.
#[derive(Debug, Clone)]
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
        Self::new("POST", path).with("application/json", body)
    }

    pub fn put(path: impl Into<String>, body: &Value) -> Self {
        Self::new("PUT", path).with("application/json", body)
    }

    pub fn delete(path: impl Into<String>, options: &Value) -> Self {
        Self::new("DELETE", path).with("application/json", options)
    }

    /// `kind` is the patch's media type.
    pub fn patch(path: impl Into<String>, kind: &'static str, body: &Value) -> Self {
        Self::new("PATCH", path).with(kind, body)
    }

    fn with(self, kind: &'static str, body: &Value) -> Self {
        Self { content: Some((kind, body.to_string().into_bytes())), ..self }
    }

    #[must_use]
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// A parameter; an empty one is left out.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.query.push((key.to_owned(), value));
        }
        self
    }

    fn build(&self) -> Result<Request<Body>> {
        let mut uri = self.path.clone();
        for (key, value) in &self.query {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(key);
            uri.push('=');
            escape(&mut uri, value);
        }
        let mut request = Request::builder().method(self.method).uri(uri).header(ACCEPT, self.accept);
        let body = match &self.content {
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, *kind);
                body.clone()
            }
            None => Vec::new(),
        };
        request.body(Body::from(body)).map_err(|error| Error::Usage(error.to_string()))
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

/// A connection to one server.
#[derive(Clone)]
pub struct Client {
    /// What the streams of exec, attach and port-forward run over.
    pub kube: kube::Client,
    host: String,
    warnings: Warnings,
}

impl Client {
    /// `host` is how messages name the server.
    pub fn new(kube: kube::Client, host: String, warnings: Warnings) -> Self {
        Self { kube, host, warnings }
    }

    /// Sends a request; an answer that is not a success is an error.
    ///
    /// # Errors
    /// When the server is not reached, or refuses.
    pub async fn send(&self, call: &Call) -> Result<Response<Body>> {
        for _ in 0..RETRIES {
            let response = self.kube.send(call.build()?).await.map_err(|error| self.unreached(&error))?;
            self.warnings.tell(response.headers().get_all(WARNING))?;
            if response.status().is_success() {
                return Ok(response);
            }
            match retry_after(&response) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(refusal(response).await),
            }
        }
        Err(refusal(self.kube.send(call.build()?).await.map_err(|error| self.unreached(&error))?).await)
    }

    /// Sends a request and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Client::send`], and when the answer is not JSON.
    pub async fn json(&self, call: &Call) -> Result<Value> {
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Usage(format!("the answer is not JSON: {error}")))
    }

    /// Sends a request and reads the answer as it is.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn bytes(&self, call: &Call) -> Result<Vec<u8>> {
        let body = self.send(call).await?.into_body();
        let collected = body.collect().await.map_err(|error| self.unreached(&error))?;
        Ok(collected.to_bytes().into())
    }

    /// Sends a request and reads the answer as it comes.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn stream(&self, call: &Call) -> Result<Chunks> {
        Ok(Chunks { body: self.send(call).await?.into_body(), rest: Vec::new() })
    }

    /// All items of a collection, page by page; `limit` 0 asks for all at once.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub async fn list(&self, call: &Call, limit: u64) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        self.pages(call, limit, |mut page| {
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
        })
        .await?;
        Ok(items)
    }

    /// The pages of a collection, in order.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub async fn pages(&self, call: &Call, limit: u64, mut page: impl FnMut(Value)) -> Result<()> {
        let call = if limit > 0 { call.clone().query("limit", limit.to_string()) } else { call.clone() };
        let mut from = String::new();
        loop {
            let answer = self.json(&call.clone().query("continue", &from)).await?;
            from = answer.text("metadata.continue").to_owned();
            page(answer);
            if from.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tells the user what is no error.
    ///
    /// # Errors
    /// When the stream of errors cannot be written.
    pub fn warn(&self, text: &str) -> Result<()> {
        Ok(self.warnings.say(text)?)
    }

    fn unreached(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let (mut innermost, mut refused) = (error, false);
        loop {
            let io = innermost.downcast_ref::<std::io::Error>();
            refused |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
            match innermost.source() {
                Some(source) => innermost = source,
                None => break,
            }
        }
        Error::Connect { host: self.host.clone(), refused, cause: innermost.to_string() }
    }

    /// An error of the streams that exec, attach and port-forward run over.
    pub fn stream_error(&self, error: kube::Error) -> Error {
        match error {
            kube::Error::Api(status) => {
                let status = json!({"message": status.message, "reason": status.reason, "code": status.code});
                match serde_json::from_value(status) {
                    Ok(status) => Error::Server(status),
                    Err(error) => Error::Usage(error.to_string()),
                }
            }
            other => self.unreached(&other),
        }
    }
}

/// How long a server that is too busy wants to be left alone.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let busy = response.status() == StatusCode::TOO_MANY_REQUESTS || response.status().is_server_error();
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    busy.then(|| Duration::from_secs(seconds))
}

/// The `Status` in an answer, or one that is made from its code.
async fn refusal(response: Response<Body>) -> Error {
    let code = response.status();
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Error::Connect { host: String::new(), refused: false, cause: error.to_string() },
    };
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) if status.kind == "Status" => Error::Server(Box::new(status)),
        _ => Error::Server(Box::new(unstructured(code, String::from_utf8_lossy(&body).trim()))),
    }
}

fn unstructured(code: StatusCode, body: &str) -> Status {
    let (reason, message) = match code {
        StatusCode::NOT_FOUND => ("NotFound", "the server could not find the requested resource"),
        StatusCode::UNAUTHORIZED => ("Unauthorized", "the server has asked for the client to provide credentials"),
        StatusCode::FORBIDDEN => ("Forbidden", body),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
        StatusCode::BAD_REQUEST => ("BadRequest", body),
        StatusCode::TOO_MANY_REQUESTS => {
            ("TooManyRequests", "the server has received too many requests and has asked us to try again later")
        }
        StatusCode::SERVICE_UNAVAILABLE => ("ServiceUnavailable", body),
        StatusCode::INTERNAL_SERVER_ERROR => ("InternalError", body),
        _ => ("", body),
    };
    Status { reason: reason.to_owned(), message: message.to_owned(), code: code.as_u16(), ..Status::default() }
}

/// An answer that is read as it comes.
pub struct Chunks {
    body: Body,
    rest: Vec<u8>,
}

impl Chunks {
    /// What came next; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| Error::Usage(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data.into()));
            }
        }
        Ok(None)
    }

    /// The next line with its end; `None` at the end.
    ///
    /// # Errors
    /// As [`Chunks::next`].
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        while let Some(mut chunk) = self.next().await? {
            if let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
                self.rest = chunk.split_off(end + 1);
                line.extend(chunk);
                return Ok(Some(line));
            }
            line.extend(chunk);
        }
        Ok((!line.is_empty()).then_some(line))
    }

    /// The next event of a watch; `None` at its end.
    ///
    /// # Errors
    /// As [`Chunks::next`], and when a line is no event.
    pub async fn event(&mut self) -> Result<Option<Value>> {
        match self.line().await? {
            None => Ok(None),
            Some(line) => serde_json::from_slice(&line).map(Some).map_err(|error| Error::Usage(error.to_string())),
        }
    }
}
