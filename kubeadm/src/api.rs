//! Writing planned objects through the API: create, or replace what is there.

use std::time::Duration;

use component_base::client;
use kube::Client;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {what}")]
    Api {
        action: &'static str,
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("cannot write {0}")]
    Request(String, #[source] http::Error),
    #[error("{what} after {} s", .patience.as_secs())]
    Timeout { what: String, patience: Duration },
}

const POLL: Duration = Duration::from_millis(100);
/// Conflicts in a row with another writer, until that is an error.
const TRIES: usize = 5;

/// The path of the collection that an object belongs to. All kinds that kubeadm writes have regular plurals.
pub fn collection(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = format!("{}s", text(&object["kind"]).to_lowercase());
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// Creates each object, or replaces it when it exists.
pub async fn apply_all(client: &Client, objects: &[Value]) -> Result<(), Error> {
    for object in objects {
        apply(client, object).await?;
    }
    Ok(())
}

async fn apply(client: &Client, object: &Value) -> Result<(), Error> {
    let collection = collection(object);
    let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    // Looked for first: creating a Service again would be refused for its address, not for its name.
    for _ in 0..TRIES {
        let written = match send(client, "GET", &path, None).await {
            Ok(found) => {
                let mut wanted = object.clone();
                wanted["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
                send(client, "PUT", &path, Some(&wanted)).await
            }
            Err(error) if is_not_found(&error) => send(client, "POST", &collection, Some(object)).await,
            Err(error) => return Err(error),
        };
        let raced = [client::is_already_exists, client::is_conflict, client::is_not_found];
        match written {
            Err(error) if raced.iter().any(|question| is(&error, question)) => {}
            result => return result.map(drop),
        }
    }
    Err(Error::Timeout { what: format!("{} keeps changing", describe(object)), patience: Duration::ZERO })
}

fn is(error: &Error, question: impl Fn(&kube::Error) -> bool) -> bool {
    matches!(error, Error::Api { source, .. } if question(source))
}

/// Whether an error is the answer that there is no such object.
pub fn is_not_found(error: &Error) -> bool {
    is(error, client::is_not_found)
}

/// One request; the answer as JSON.
pub async fn send(client: &Client, method: &'static str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
    send_as(client, method, path, "application/json", body).await
}

async fn send_as(
    client: &Client,
    method: &'static str,
    path: &str,
    media_type: &str,
    body: Option<&Value>,
) -> Result<Value, Error> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media_type)
        .body(body)
        .map_err(|error| Error::Request(path.to_owned(), error))?;
    client.request(request).await.map_err(|source| Error::Api {
        action: match method {
            "POST" => "create in",
            "PUT" => "replace",
            "PATCH" => "change",
            "DELETE" => "delete",
            _ => "get",
        },
        what: path.to_owned(),
        source: Box::new(source),
    })
}

/// A strategic merge patch.
pub async fn patch(client: &Client, path: &str, patch: &Value) -> Result<Value, Error> {
    send_as(client, "PATCH", path, "application/strategic-merge-patch+json", Some(patch)).await
}

/// Waits until the apiserver says that it lives.
pub async fn wait_live(client: &Client, patience: Duration) -> Result<(), Error> {
    until(patience, "kube-apiserver is not live", async || {
        let request = http::Request::get("/livez").body(Vec::new()).ok()?;
        client.request_text(request).await.ok().map(drop)
    })
    .await
}

/// Waits until an object exists.
pub async fn wait_for(client: &Client, path: &str, patience: Duration) -> Result<Value, Error> {
    until(patience, &format!("{path} does not exist"), async || send(client, "GET", path, None).await.ok()).await
}

async fn until<T>(patience: Duration, what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> Result<T, Error> {
    let asking = async {
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(patience, asking).await.map_err(|_| Error::Timeout { what: what.to_owned(), patience })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn collections_follow_group_scope_and_kind() {
        let path = |version, kind, namespace: Option<&str>| {
            collection(&json!({ "apiVersion": version, "kind": kind, "metadata": { "namespace": namespace } }))
        };
        assert_eq!(path("v1", "ConfigMap", Some("kube-public")), "/api/v1/namespaces/kube-public/configmaps");
        assert_eq!(
            path("rbac.authorization.k8s.io/v1", "ClusterRole", None),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        );
    }
}
