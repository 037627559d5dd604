//! The OpenAPI documents of what is served: version 3 per group and version, version 2 for everything, with entity tags.
//!
//! Kubernetes documentation, "The Kubernetes API", OpenAPI interface definition; KEP-2896.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use apimachinery::ApiError;
use apimachinery::openapi;
use apimachinery::schema::Resource;
use bytes::Bytes;
use component_base::version;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::respond;
use crate::served::{Published, Served};
use crate::server::unknown_path;

/// Version 2 as protobuf.
const PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document with its tag.
struct Document {
    content_type: &'static str,
    body: Bytes,
    tag: String,
}

impl Document {
    fn json(value: &Value) -> Self {
        Document::new("application/json", value.to_string().into_bytes())
    }

    fn new(content_type: &'static str, body: Vec<u8>) -> Self {
        let tag = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
        Document { content_type, body: body.into(), tag }
    }

    fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let quoted = format!("\"{}\"", self.tag);
        let known = headers.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == quoted.as_bytes());
        let mut response = if known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            respond::with_type(StatusCode::OK, self.content_type, self.body.clone())
        };
        if let Ok(tag) = HeaderValue::from_str(&quoted) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// The documents, each made when it is first asked for.
#[derive(Default)]
pub struct Documents {
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
    /// Of the built-in resources, which stay.
    builtin: Arc<OnceLock<BTreeMap<String, Document>>>,
    custom: OnceLock<BTreeMap<String, Document>>,
}

/// `api/v1`, `apis/apps/v1`.
fn path_of(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}", resource.api_version())
    }
}

fn v3_documents<'a>(resources: impl Iterator<Item = &'a Arc<Served>>) -> BTreeMap<String, Document> {
    let mut groups: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    for served in resources {
        groups.entry(path_of(&served.resource)).or_default().push(&served.resource);
    }
    let document =
        |(path, rows): (String, Vec<&Resource>)| (path, Document::json(&openapi::v3(version::GIT_VERSION, &rows)));
    groups.into_iter().map(document).collect()
}

/// Whether version 2 is asked for as protobuf: the first form that is known counts. Of its two names one is of before Kubernetes 1.28.
///
/// # Errors
/// `NotAcceptable`, for forms that do not exist.
fn wants_protobuf(headers: &HeaderMap) -> Result<bool, ApiError> {
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let media = accepted.split(',').map(|clause| clause.split(';').next().unwrap_or_default().trim());
    let mut known = media.filter_map(|media| match media {
        "application/json" | "application/*" | "*/*" => Some(false),
        PROTOBUF_TYPE | "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" => Some(true),
        _ => None,
    });
    known.next().ok_or_else(|| ApiError::not_acceptable(&["application/json", PROTOBUF_TYPE]))
}

impl Documents {
    /// The documents of another set of custom resources.
    pub fn successor(&self) -> Self {
        Documents { builtin: self.builtin.clone(), ..Documents::default() }
    }

    /// Answers `/openapi/v2`, `/openapi/v3` and `/openapi/v3/<group and version>`.
    pub fn answer(&self, resources: &Published, path: &str, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
        let path = path.trim_matches('/');
        if path == "openapi/v2" {
            let all = || {
                let resources: Vec<_> = resources.iter().map(|served| &*served.resource).collect();
                openapi::v2(version::GIT_VERSION, &resources)
            };
            let document = if wants_protobuf(headers)? {
                self.v2_protobuf.get_or_init(|| Document::new(PROTOBUF_TYPE, openapi::encode_v2(&all())))
            } else {
                self.v2.get_or_init(|| Document::json(&all()))
            };
            return Ok(document.answer(headers));
        }
        let builtin = self.builtin.get_or_init(|| v3_documents(resources.builtin()));
        let custom = self.custom.get_or_init(|| v3_documents(resources.custom()));
        match path.strip_prefix("openapi/v3") {
            Some("") => {
                let entry = |(path, document): (&String, &Document)| {
                    let url = format!("/openapi/v3/{path}?hash={}", document.tag);
                    (path.clone(), json!({"serverRelativeURL": url}))
                };
                let paths: serde_json::Map<String, Value> = builtin.iter().chain(custom).map(entry).collect();
                Ok(respond::json(&json!({"paths": paths})))
            }
            Some(rest) => {
                let path = rest.trim_start_matches('/');
                let found = builtin.get(path).or_else(|| custom.get(path));
                Ok(found.map_or_else(unknown_path, |document| document.answer(headers)))
            }
            None => Ok(unknown_path()),
        }
    }
}
