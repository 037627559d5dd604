//! What a call that failed is told as: the words of Kubernetes' own clients, which people search for.

use std::error::Error as StdError;
use std::io;

use apimachinery::status::Status;
use http::StatusCode;
use http_body_util::LengthLimitError;
use rustls::CertificateError;

use super::MAX_ANSWER;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was no answer, or only a part of it.
    #[error("Post {url:?}: {reason}")]
    Transport { url: String, reason: String },
    /// The answer is of a status that is no success.
    #[error("{message}")]
    Status { code: u16, message: String },
}

/// What lies at the bottom of a failure.
pub(super) fn reason(error: &(dyn StdError + 'static)) -> String {
    let mut current = error;
    loop {
        if let Some(found) = known(current) {
            return found;
        }
        // What an error of the system wraps is not its source.
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| current.source()) {
            Some(inner) => current = inner,
            None => return current.to_string(),
        }
    }
}

fn known(error: &(dyn StdError + 'static)) -> Option<String> {
    if error.is::<LengthLimitError>() {
        return Some(format!("response body too large: limit is {MAX_ANSWER}"));
    }
    if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
        return Some("EOF".to_owned());
    }
    error.downcast_ref().map(of_tls)
}

fn of_tls(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(error) = error else { return format!("tls: {error}") };
    let detail = match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("certificate is valid for {}, not {}", presented.join(", "), expected.to_str())
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {detail}")
}

/// What is said of an answer that is no success: its own message if it is a `Status`, else what the code means.
pub(super) fn of_status(code: StatusCode, body: &[u8]) -> String {
    let status = serde_json::from_slice::<Status>(body).ok();
    if let Some(status) = status.filter(|status| status.kind == "Status" && !status.message.is_empty()) {
        return status.message;
    }
    let text = String::from_utf8_lossy(body);
    match code.as_u16() {
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text.trim().to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned()
        }
        500.. => format!("an error on the server ({:?}) has prevented the request from succeeding", text.trim()),
        _ => "the server rejected our request for an unknown reason".to_owned(),
    }
}
