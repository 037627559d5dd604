//! AdmissionReview: what a webhook is asked, and whether its answer is one.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Webhook request and response"); admission.k8s.io/v1 and
//! v1beta1.

use apimachinery::status::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::view::describe;
use crate::{Attributes, Form};

/// A version of the review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1beta1),
            _ => None,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "admission.k8s.io/v1",
            Version::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The review that a webhook is sent.
pub(super) fn request(
    version: Version,
    uid: &str,
    a: &Attributes<'_>,
    form: &Form,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Value {
    let mut request = describe(a, form, object);
    request["uid"] = uid.into();
    for (field, value) in [("object", object), ("oldObject", old)] {
        request[field] = value.map_or(Value::Null, |value| a.request.show(value, form));
    }
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Review {
    kind: String,
    api_version: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<Status>,
    patch: String,
    patch_type: Option<String>,
    warnings: Vec<String>,
}

/// What a webhook says.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) status: Option<Status>,
    /// The patch, and how it is written.
    pub(super) patch: Option<(Vec<u8>, String)>,
    pub(super) warnings: Vec<String>,
}

fn group_version_kind(review: &Review) -> String {
    let (group, version) = review.api_version.split_once('/').unwrap_or(("", &review.api_version));
    format!("{group}/{version}, Kind={}", review.kind)
}

/// Reads an answer.
///
/// # Errors
/// What is no answer to the review of this uid.
pub(super) fn answer(version: Version, uid: &str, mutating: bool, body: &[u8]) -> Result<Answer, Invalid> {
    let unreadable =
        |error: serde_json::Error| Invalid::Unreadable(format!("couldn't get version/kind; json parse error: {error}"));
    let mut value: Value = serde_json::from_slice(body).map_err(unreadable)?;
    remove_nulls(&mut value);
    let mut review: Review = serde_json::from_value(value).map_err(unreadable)?;
    let invalid = |reason: String| Err(Invalid::Answer(reason));
    let Some(response) = review.response.take() else { return invalid("webhook response was absent".to_owned()) };
    if version == Version::V1 {
        if response.uid != uid {
            return invalid(format!("expected response.uid={uid:?}, got {:?}", response.uid));
        }
        if (review.api_version.as_str(), review.kind.as_str()) != (version.api_version(), "AdmissionReview") {
            let wanted = "admission.k8s.io/v1, Kind=AdmissionReview";
            return invalid(format!("expected webhook response of {wanted}, got {}", group_version_kind(&review)));
        }
        check_patch(mutating, &response).map_err(|reason| Invalid::Answer(reason.to_owned()))?;
    }
    let patch = STANDARD.decode(&response.patch).map_err(|error| Invalid::Unreadable(error.to_string()))?;
    // Answers of v1beta1 may leave out how a patch is written.
    let sort = match response.patch_type {
        Some(sort) if version == Version::V1 => sort,
        _ => "JSONPatch".to_owned(),
    };
    Ok(Answer {
        allowed: response.allowed,
        status: response.status,
        patch: (mutating && !patch.is_empty()).then_some((patch, sort)),
        warnings: response.warnings,
    })
}

/// What is null is not said: not everybody leaves such fields out.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

fn check_patch(mutating: bool, response: &Response) -> Result<(), &'static str> {
    match (mutating, !response.patch.is_empty(), response.patch_type.as_deref()) {
        (true, true, None) => Err("webhook returned response.patch but not response.patchType"),
        (true, false, Some(_)) => Err("webhook returned response.patchType but not response.patch"),
        (true, true, Some("")) => Err("webhook returned invalid response.patchType of \"\""),
        (false, true, _) => Err("validating webhook may not return response.patch"),
        (false, false, Some(_)) => Err("validating webhook may not return response.patchType"),
        _ => Ok(()),
    }
}

/// Why an answer is none.
#[derive(Debug, PartialEq)]
pub(super) enum Invalid {
    /// It is no review.
    Unreadable(String),
    /// It is a review that says what it must not.
    Answer(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: Version, mutating: bool, response: Value) -> Result<Answer, Invalid> {
        let review = json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "response": response});
        answer(version, "u", mutating, review.to_string().as_bytes())
    }

    #[test]
    fn an_answer_must_be_to_the_question() {
        let bad = |text: &str| Err(Invalid::Answer(text.to_owned()));
        for (mutating, response, expected) in [
            (true, json!({"uid": "v"}), bad("expected response.uid=\"u\", got \"v\"")),
            (
                true,
                json!({"uid": "u", "patch": "W10="}),
                bad("webhook returned response.patch but not response.patchType"),
            ),
            (
                true,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                bad("webhook returned response.patchType but not response.patch"),
            ),
            (false, json!({"uid": "u", "patch": "W10="}), bad("validating webhook may not return response.patch")),
            (
                false,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                bad("validating webhook may not return response.patchType"),
            ),
            (true, Value::Null, bad("webhook response was absent")),
        ] {
            assert_eq!(read(Version::V1, mutating, response.clone()), expected, "{response}");
        }
        let other =
            answer(Version::V1, "u", true, br#"{"kind": "Other", "apiVersion": "a/v1", "response": {"uid": "u"}}"#);
        let said = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got a/v1, Kind=Other";
        assert_eq!(other, bad(said));
        assert!(matches!(answer(Version::V1, "u", true, b"x"), Err(Invalid::Unreadable(_))));
    }

    #[test]
    fn answers_of_the_old_version_may_say_less() {
        let read = read(Version::V1beta1, true, json!({"allowed": true, "patch": "W10=", "warnings": null}));
        let patch = Some((b"[]".to_vec(), "JSONPatch".to_owned()));
        assert_eq!(read, Ok(Answer { allowed: true, status: None, patch, warnings: vec![] }));
    }
}
