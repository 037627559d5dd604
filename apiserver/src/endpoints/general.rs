//! Everything outside of groups and versions: discovery, OpenAPI, version, health, metrics, the keys of the token issuer.

use apimachinery::ApiError;
use bytes::Bytes;
use component_base::version;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::flowcontrol::dump;
use crate::negotiate::{self, Form, Negotiated};
use crate::request::Query;
use crate::respond;
use crate::server::{Context, Server, unknown_path};

/// The content type of aggregated discovery.
const AGGREGATED_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a request that is not for a resource.
pub async fn answer(
    server: &Server,
    context: &Context,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Ok(unknown_path());
    }
    if let Some(response) = server.health.answer(path, &context.query).await {
        return Ok(response);
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        [""] => Ok(respond::json(&json!({"paths": paths(server)}))),
        ["version"] => Ok(respond::json(&version_info())),
        ["metrics"] => Ok(respond::with_type(
            StatusCode::OK,
            component_base::metrics::CONTENT_TYPE,
            Bytes::from(server.metrics.registry.encode()),
        )),
        ["debug", "api_priority_and_fairness", what] => Ok(flow_control(server, what, &context.query)),
        [".well-known", "openid-configuration"] => {
            Ok(respond::json(&server.authentication.discovery_document(&server.external_address)))
        }
        ["openid", "v1", "jwks"] => {
            let keys = apiserver_auth::tokens::discovery::jwks(&server.authentication.keys);
            Ok(respond::with_type(StatusCode::OK, "application/jwk-set+json", Bytes::from(keys.to_string())))
        }
        ["openapi", ..] => {
            let published = server.resources.published();
            published.openapi.answer(&published, path, headers)
        }
        ["api" | "apis", ..] => discovery(server, &segments, headers),
        _ => Ok(unknown_path()),
    }
}

fn flow_control(server: &Server, what: &str, query: &Query) -> Response<Body> {
    let Some(flow_control) = server.limiter.flow_control() else { return unknown_path() };
    let levels = flow_control.levels();
    let table = match what {
        "dump_priority_levels" => dump::priority_levels(&levels),
        "dump_queues" => dump::queues(&levels),
        "dump_requests" => dump::requests(&levels, !query.get("includeRequestDetails").is_empty()),
        _ => return unknown_path(),
    };
    respond::text(StatusCode::OK, table)
}

fn version_info() -> serde_json::Value {
    json!({
        "major": version::MAJOR, "minor": version::MINOR,
        "emulationMajor": version::MAJOR, "emulationMinor": version::MINOR,
        "minCompatibilityMajor": version::MAJOR, "minCompatibilityMinor": "35",
        "gitVersion": version::GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": version::platform(),
    })
}

fn paths(server: &Server) -> Vec<String> {
    let own = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let mut all: Vec<String> =
        own.iter().map(ToString::to_string).chain(server.resources.published().discovery().paths()).collect();
    all.sort();
    all
}

fn discovery(server: &Server, segments: &[&str], headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let negotiated = negotiate::accept(headers)?;
    if let (["api" | "apis"], Form::AggregatedDiscovery) = (segments, negotiated.form) {
        return Ok(aggregated(server, segments[0] == "api", headers));
    }
    let plain = Negotiated { form: Form::Whole, ..negotiated };
    let published = server.resources.published();
    let documents = published.discovery();
    let document = match segments {
        ["api"] => Some(documents.core_versions(&server.external_address)),
        ["apis"] => Some(documents.group_list()),
        ["api", version] => documents.resources("", version),
        ["apis", group] => documents.group(group),
        ["apis", group, version] => documents.resources(group, version),
        _ => None,
    };
    match document {
        Some(document) => respond::value(plain, StatusCode::OK, &document),
        None => Ok(unknown_path()),
    }
}

fn aggregated(server: &Server, core: bool, headers: &HeaderMap) -> Response<Body> {
    let published = server.resources.published();
    let document = &published.discovery().aggregated[usize::from(!core)];
    let known = headers.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == document.etag.as_bytes());
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        respond::with_type(StatusCode::OK, AGGREGATED_TYPE, document.body.clone())
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED_TYPE));
    if let Ok(tag) = HeaderValue::from_str(&document.etag) {
        headers.insert(ETAG, tag);
    }
    response
}
