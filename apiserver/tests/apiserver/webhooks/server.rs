//! A webhook server: HTTPS, with an authority of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use component_base::pki::{Authority, KeyType, Names, Subject, Usage, Validity};
use component_base::tls::{self, ServingCertificate};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// What is answered to the request of a review at a path; the uid is filled in. None never answers.
pub type Decide = fn(&str, &Value) -> Option<Value>;

/// A webhook server, until it is dropped.
pub struct Webhooks {
    pub address: SocketAddr,
    pub authority: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    stop: CancellationToken,
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Webhooks {
    /// Its certificate is for this machine and for the Service `hook` in the namespace `default`.
    pub async fn start(decide: Decide) -> Result<Self> {
        let now = SystemTime::now();
        let authority = Authority::generate("webhooks", KeyType::EcdsaP256, now)?;
        let names = Names::from_hosts(["127.0.0.1", "hook.default.svc"]);
        let validity = Validity::from(now, Duration::from_secs(3600));
        let subject = Subject::new("hook", &[]);
        let issued = authority.issue(&subject, &names, &[Usage::ServerAuth], validity, KeyType::EcdsaP256)?;
        let stop = CancellationToken::new();
        let tls = tls::Server::new(ServingCertificate::Pem(issued), None, stop.clone())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let accept = accept(listener, TlsAcceptor::from(tls.config), decide, asked.clone());
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(accept).await });
        Ok(Webhooks { address, authority: STANDARD.encode(authority.certificate_pem()), asked, stop })
    }

    /// What was asked at a path, in order: the requests of the reviews.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let asked = self.asked.lock().expect("nobody panicked");
        asked.iter().filter(|(at, _)| at == path).map(|(_, request)| request.clone()).collect()
    }

    /// A webhook for everything in the rules, at a path of this server.
    pub fn webhook(&self, path: &str, rules: Value, more: Value) -> Value {
        let url = format!("https://{}/{path}", self.address);
        let mut webhook = json!({"name": format!("{path}.example.com"), "rules": [rules], "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": url, "caBundle": self.authority}});
        for (field, value) in more.as_object().expect("fields of a webhook") {
            webhook[field] = value.clone();
        }
        webhook
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, decide: Decide, asked: Arc<Mutex<Vec<(String, Value)>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, asked) = (tls.clone(), asked.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| answer(request, decide, asked.clone()));
            let served = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            drop(served);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    decide: Decide,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut review: Value = serde_json::from_slice(&body).expect("a review");
    let question = review["request"].take();
    asked.lock().expect("nobody panicked").push((path.clone(), question.clone()));
    let Some(mut response) = decide(&path, &question) else { return std::future::pending().await };
    if response["uid"].is_null() {
        response["uid"] = question["uid"].clone();
    }
    let answer = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
    Ok(Response::new(Full::new(Bytes::from(answer.to_string()))))
}

/// A yes with a JSON patch.
pub fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}
