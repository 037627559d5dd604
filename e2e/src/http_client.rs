//! Requests as a program that knows nothing of Kubernetes' types sends them: any body, any media type.

use anyhow::Result;
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::Value;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Vec<u8>,
    pub warnings: Vec<String>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `reason` of a Status.
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The `[field, reason]` of each cause of a Status.
    pub fn causes(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes = self.json()["details"]["causes"].clone();
        let list = causes.as_array().cloned().unwrap_or_default();
        list.iter().map(|cause| (text(&cause["field"]), text(&cause["reason"]))).collect()
    }
}

/// Sends a request with these headers.
pub async fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Result<Answer> {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send(request.body(Body::from(body.into()))?).await?;
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    Ok(Answer {
        code: response.status().as_u16(),
        warnings,
        body: response.into_body().collect().await?.to_bytes().to_vec(),
    })
}

/// Sends JSON.
pub async fn send_json(client: &Client, method: &str, path: &str, body: &Value) -> Result<Answer> {
    send(client, method, path, &[("content-type", "application/json")], body.to_string()).await
}
