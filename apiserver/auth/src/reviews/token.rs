//! TokenReview: whose token is this?

use apimachinery::ApiError;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{answered, user_to_value};
use crate::authentication::{AuthRequest, Authenticated, Authenticator};
use crate::object::{strings, text};

/// Answers a TokenReview; `tokens` is the authenticator of bearer tokens.
pub async fn review(tokens: &dyn Authenticator, object: &Value) -> Result<Value, ApiError> {
    let token = text(object, "/spec/token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = object.get("spec").map(|spec| strings(spec, "audiences")).unwrap_or_default();
    let mut headers = HeaderMap::new();
    match HeaderValue::try_from(format!("Bearer {token}")) {
        Ok(value) => headers.insert(AUTHORIZATION, value),
        Err(_) => return Ok(answered(object, refused("invalid bearer token"))),
    };
    let request = AuthRequest { headers: &headers, peer: &[], audiences: &audiences };
    let status = match tokens.authenticate(&request).await {
        Ok(Some(found)) => accepted(&found),
        Ok(None) => json!({"user": {}}),
        Err(error) => refused(&error.to_string()),
    };
    Ok(answered(object, status))
}

fn accepted(found: &Authenticated) -> Value {
    let mut status = json!({"authenticated": true, "user": user_to_value(&found.user)});
    if !found.audiences.is_empty() {
        status["audiences"] = found.audiences.clone().into();
    }
    status
}

fn refused(reason: &str) -> Value {
    json!({"user": {}, "error": reason})
}
