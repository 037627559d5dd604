//! From the result of an endpoint to an HTTP response. The one place where errors become a `Status`.

use std::collections::HashSet;
use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::Object;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::Body;
use crate::negotiate::{Encoding, Form, Negotiated};
use crate::present::{self, Presenter};

/// How many characters of warnings go with one answer before they are cut.
const WARNINGS_MAX: usize = 4 * 1024;
/// To how many characters each is cut then.
const CUT_WARNING: usize = 256;

/// A response with a body of a known type.
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::full(bytes)
    }
}

/// Plain text.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", Bytes::from(text.into()))
}

/// A JSON document.
pub fn json(document: &Value) -> Response<Body> {
    with_type(StatusCode::OK, "application/json", Bytes::from(document.to_string()))
}

/// A stored object.
pub fn object(presenter: &Presenter, status: StatusCode, object: &Arc<Object>) -> Result<Response<Body>, ApiError> {
    let bytes = presenter.object(object)?;
    Ok(with_type(status, presenter.negotiated.encoding.content_type(), bytes))
}

/// An object that is not stored: a review, a `Scale`, a `Status`.
pub fn value(negotiated: Negotiated, status: StatusCode, value: &Value) -> Result<Response<Body>, ApiError> {
    let bytes = present::value(negotiated.encoding, value)?;
    Ok(with_type(status, negotiated.encoding.content_type(), bytes))
}

/// A failure, in the encoding that the client accepts.
pub fn error(error: &ApiError, negotiated: Option<Negotiated>) -> Response<Body> {
    let encoding = negotiated.map_or(Encoding::Json, |negotiated| negotiated.encoding);
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = Negotiated { encoding, form: Form::Whole };
    let mut response = match value(answer, status, &error.to_value()) {
        Ok(response) => response,
        Err(_) => with_type(status, Encoding::Json.content_type(), Bytes::from(error.to_value().to_string())),
    };
    if let Some(seconds) = error.0.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning` headers (RFC 7234, code 299), each text once. When they are long together, each is cut, and the rest are left out.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen = HashSet::new();
    let texts: Vec<&str> =
        warnings.iter().map(String::as_str).filter(|text| !text.is_empty() && seen.insert(*text)).collect();
    let long = texts.iter().map(|text| text.chars().count()).sum::<usize>() > WARNINGS_MAX;
    let mut written = 0;
    for text in texts {
        if written >= WARNINGS_MAX {
            break;
        }
        let cut: String = if long { text.chars().take(CUT_WARNING).collect() } else { text.to_owned() };
        written += cut.chars().count();
        let escaped = cut.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(warnings: &[String]) -> Vec<String> {
        let mut response = Response::new(Body::full(Bytes::new()));
        warn(&mut response, warnings);
        let texts = response.headers().get_all(WARNING).iter();
        texts.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn warnings_are_sent_once_and_quoted() {
        let warnings = ["a \"b\"", "ü", "a \"b\"", "", "line\nbreak"].map(str::to_owned);
        assert_eq!(headers(&warnings), [r#"299 - "a \"b\"""#, r#"299 - "ü""#]);
    }

    #[test]
    fn many_long_warnings_are_cut() {
        let warnings: Vec<String> = (0..100).map(|i| format!("{i:03}{}", "x".repeat(497))).collect();
        let sent = headers(&warnings);
        assert_eq!(sent.len(), WARNINGS_MAX / CUT_WARNING);
        assert!(sent.iter().all(|text| text.len() == CUT_WARNING + r#"299 - """#.len()));
    }
}
