//! Asking one webhook, and what its answer means.

use apimachinery::patch::json as json_patch;
use apimachinery::status::Status;
use apimachinery::{ApiError, Reason};
use serde_json::Value;

use super::hook::Hook;
use super::review::{self, Answer, Invalid};
use crate::{Attributes, Form};

/// The least code of a refusal.
const BAD_REQUEST: u16 = 400;
const NO_VERSION: &str = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";

/// What sort of failure a call ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// There was no answer that counts; the failure policy says what is done.
    Call,
    /// The webhook says no.
    Rejection,
    /// The server could not do what the webhook says.
    Server,
}

/// Why a request does not pass.
#[derive(Debug)]
pub struct Failure {
    pub sort: Sort,
    pub error: ApiError,
}

impl Failure {
    fn server(error: ApiError) -> Self {
        Failure { sort: Sort::Server, error }
    }
}

impl Hook {
    fn failed(&self, reason: impl std::fmt::Display) -> Failure {
        let error = ApiError::internal(format!("failed calling webhook {:?}: {reason}", self.name));
        Failure { sort: Sort::Call, error }
    }

    /// Asks the webhook about an object. What it warns of is told at once.
    async fn ask(
        &self,
        a: &Attributes<'_>,
        form: &Form,
        object: Option<&Value>,
        old: Option<&Value>,
        mutating: bool,
    ) -> Result<Answer, Failure> {
        if a.dry_run && !self.no_effects_in_dry_run {
            let message = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(Failure::server(ApiError::bad_request(message)));
        }
        let unknown = || self.failed(format!("could not create admission objects: {NO_VERSION}"));
        let version = self.version.ok_or_else(unknown)?;
        let unusable = |error: &String| self.failed(format!("could not get REST client: {error}"));
        let client = self.client().map_err(unusable)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = review::request(version, &uid, a, form, object, old);
        let body = client.post(request.to_string(), self.timeout).await;
        let body = body.map_err(|error| self.failed(format!("failed to call webhook: {error}")))?;
        let answer = review::answer(version, &uid, mutating, &body).map_err(|invalid| match invalid {
            Invalid::Unreadable(reason) => self.failed(format!("failed to call webhook: {reason}")),
            Invalid::Answer(reason) => self.failed(format!("received invalid webhook response: {reason}")),
        })?;
        answer.warnings.iter().for_each(|warning| a.request.warn(warning.clone()));
        if answer.allowed {
            Ok(answer)
        } else {
            Err(Failure { sort: Sort::Rejection, error: self.denial(answer.status) })
        }
    }

    /// Asks about an object that is final.
    ///
    /// # Errors
    /// Everything but a yes.
    pub async fn validate(
        &self,
        a: &Attributes<'_>,
        form: &Form,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        self.ask(a, form, object, old, false).await.map(drop)
    }

    /// Lets the webhook change the object; tells whether it did.
    ///
    /// # Errors
    /// Everything but a yes with a patch that fits.
    pub async fn mutate(
        &self,
        a: &Attributes<'_>,
        form: &Form,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, Failure> {
        let shown = (!object.is_null()).then_some(&*object);
        let Some((patch, sort)) = self.ask(a, form, shown, old, true).await?.patch else { return Ok(false) };
        let internal = |error: &dyn std::fmt::Display| Failure::server(ApiError::internal(error));
        let patch: Value = serde_json::from_slice(&patch).map_err(|error| internal(&error))?;
        if patch.as_array().is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        let Some(before) = shown else {
            let what = "attempted to modify the object, which is not supported for this operation";
            return Err(internal(&format!("admission webhook {:?} {what}", self.name)));
        };
        if sort != "JSONPatch" {
            return Err(self.failed(format!("unsupported patch type {sort:?}")));
        }
        let patched = json_patch::apply(&a.request.show(before, form), &patch).map_err(|error| internal(&error))?;
        let after = a.request.take(patched, form, before).map_err(Failure::server)?;
        let changed = *object != after;
        *object = after;
        Ok(changed)
    }

    /// What the client is told when the webhook says no: the webhook's own status, with the name of the webhook.
    fn denial(&self, status: Option<Status>) -> ApiError {
        let mut status = status.unwrap_or_default();
        let denied = format!("admission webhook {:?} denied the request", self.name);
        status.message = match (status.message.as_str(), status.reason.as_str()) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        status.code = status.code.max(BAD_REQUEST);
        if matches!(status.status.as_str(), "" | "Success") {
            status.status = "Failure".to_owned();
        }
        (status.kind, status.api_version) = ("Status".to_owned(), "v1".to_owned());
        ApiError(Box::new(status))
    }

    /// What becomes of a failure: nothing where the webhook may fail, and the request has time left.
    ///
    /// # Errors
    /// Where the request does not pass.
    pub fn settle(&self, failure: Failure) -> Result<(), ApiError> {
        if failure.sort != Sort::Call {
            return Err(failure.error);
        }
        debug_assert!(failure.error.is(Reason::InternalError), "a call that failed is an internal error");
        if self.ignores_failures {
            tracing::warn!(webhook = self.name, error = %failure.error, "failed calling webhook, failing open");
            return Ok(());
        }
        tracing::warn!(webhook = self.name, error = %failure.error, "failed calling webhook, failing closed");
        Err(failure.error)
    }
}
