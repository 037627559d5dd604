//! Resources that are asked and not stored: access reviews, token reviews, token requests.

use apimachinery::ApiError;
use apimachinery::schema::Resource;
use apiserver_admission::Operation;
use apiserver_auth::reviews::{access, rules, subject, token as token_review};
use apiserver_auth::tokens::request;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::write::Call;
use crate::body::Body;
use crate::{negotiate, respond};

/// Whether objects of the resource are answered at once and never stored.
pub fn is_review(resource: &Resource) -> bool {
    matches!(resource.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
}

/// Answers a review; none for other resources.
pub async fn answer(call: &Call<'_>, body: &[u8]) -> Option<Result<Response<Body>, ApiError>> {
    let resource = &call.served.resource;
    if resource.group.is_empty() && resource.resource == "bindings" {
        return Some(binding(call, body).await);
    }
    if !is_review(resource) {
        return None;
    }
    Some(review(call, body).await)
}

async fn binding(call: &Call<'_>, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let served = call.server.resources.builtin_resource("", "pods");
    let call = Call { served, warnings: Default::default(), admitted: Default::default(), ..*call };
    call.bind(body).await?;
    respond::value(negotiate::accept(call.headers)?, StatusCode::CREATED, &super::success(201))
}

async fn review(call: &Call<'_>, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let object = call.decode(&call.served.resource.ty, body)?;
    let server = call.server;
    let authorizer = &*server.authorizer;
    let answered = match call.plural() {
        "subjectaccessreviews" => access::subject(authorizer, &object)?,
        "selfsubjectaccessreviews" => access::self_subject(authorizer, call.user, &object)?,
        "localsubjectaccessreviews" => access::local_subject(authorizer, &call.info.namespace, &object)?,
        "selfsubjectrulesreviews" => rules::self_subject(authorizer, call.user, &object)?,
        "selfsubjectreviews" => subject::self_subject(call.user, &object, Timestamp::now()),
        "tokenreviews" => token_review::review(&*server.authentication.tokens, &object).await?,
        _ => return Err(ApiError::no_such_resource()),
    };
    respond::value(negotiate::accept(call.headers)?, StatusCode::CREATED, &answered)
}

/// Issues a token for a service account (`serviceaccounts/token`).
pub async fn token(call: &Call<'_>, body: &[u8]) -> Result<Value, ApiError> {
    let schema = apimachinery::schema::Schema::builtin();
    let ty = schema.type_for_kind("authentication.k8s.io/v1", "TokenRequest");
    let mut object = call.decode(ty.ok_or_else(|| ApiError::internal("the table lacks TokenRequest"))?, body)?;
    let account = call.current(&call.info.name).await?.to_value();
    let dry_run = call.dry_run()?;
    let options = Value::Null;
    let attributes = call.attributes(Operation::Create, &call.info.name, &options, dry_run);
    call.server.admission.admit(&attributes, &mut object, None).await?;
    call.server.admission.validate(&attributes, Some(&object), None).await?;
    let settings = &call.server.authentication.issuing;
    let granted = request::grant(settings, &call.server.store, &account, &object, Timestamp::now()).await?;
    call.warnings.add(granted.warnings);
    Ok(granted.object)
}
