//! The `token` subresource of service accounts: from a TokenRequest to a TokenRequest with a token in it.

use apimachinery::ApiError;
use apimachinery::field::{Error, Path};
use apiserver_storage::reader::{GroupResource, Reader};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::claims::{Claims, Kubernetes, ObjectRef};
use super::issuer::Issuer;
use crate::object::{name, namespace, text, uid};
use crate::user::service_account_name;

/// The lifetime that projected volumes ask for, and that says "warn after this, do not fail" (KEP-1205).
const WARN_ONLY_SECONDS: i64 = 3607;
/// How long such a token holds.
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;

/// What the server's flags say about issuing.
pub struct Settings {
    pub issuer: Issuer,
    pub api_audiences: Vec<String>,
    /// Longer requests are cut to this; none for no limit.
    pub max_seconds: Option<i64>,
    /// Whether tokens of projected volumes hold for a year, with a warning after an hour.
    pub extend: bool,
}

/// A TokenRequest granted, and what its client should be told.
#[derive(Debug, PartialEq)]
pub struct Granted {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Issues a token for the service account as `request` (a TokenRequest) asks.
pub async fn grant(
    settings: &Settings,
    reader: &dyn Reader,
    account: &Value,
    request: &Value,
    now: Timestamp,
) -> Result<Granted, ApiError> {
    check_names(account, request)?;
    validate(request)?;
    let mut warnings = Vec::new();
    let asked = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS);
    let seconds = match settings.max_seconds {
        Some(max) if max > 0 && asked > max => {
            warnings.push(format!("requested expiration of {asked} seconds shortened to {max} seconds"));
            max
        }
        _ => asked,
    };
    let audiences = match crate::object::strings(request.get("spec").unwrap_or(&Value::Null), "audiences") {
        none if none.is_empty() => settings.api_audiences.clone(),
        some => some,
    };
    let bound = bound_objects(reader, account, request).await?;
    let for_us = audiences.iter().all(|audience| settings.api_audiences.contains(audience));
    let extended = settings.extend && bound.pod.is_some() && seconds == WARN_ONLY_SECONDS && for_us;
    let issued = now.as_second();
    let claims = Claims {
        aud: audiences.clone(),
        exp: Some(issued + if extended { EXTENDED_SECONDS } else { seconds }),
        iat: Some(issued),
        nbf: Some(issued),
        iss: settings.issuer.name.clone(),
        jti: uuid::Uuid::new_v4().to_string(),
        sub: service_account_name(namespace(account), name(account)),
        kubernetes: Some(Kubernetes { warnafter: extended.then_some(issued + seconds), ..bound }),
        ..Claims::default()
    };
    let token = settings.issuer.sign(&claims).map_err(ApiError::internal)?;
    Ok(Granted { object: answer(account, request, audiences, seconds, &token, now), warnings })
}

fn answer(
    account: &Value,
    request: &Value,
    audiences: Vec<String>,
    seconds: i64,
    token: &str,
    now: Timestamp,
) -> Value {
    let expires = Timestamp::from_second(now.as_second() + seconds).unwrap_or(Timestamp::MAX);
    let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
    spec["boundObjectRef"] = request.pointer("/spec/boundObjectRef").cloned().unwrap_or(Value::Null);
    json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": name(account),
            "namespace": namespace(account),
            "creationTimestamp": created.to_string(),
        },
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": expires.to_string()},
    })
}

/// Names in the request may be left out, but must not be others.
fn check_names(account: &Value, request: &Value) -> Result<(), ApiError> {
    let pairs = [("/metadata/name", name(account), "name"), ("/metadata/namespace", namespace(account), "namespace")];
    for (pointer, wanted, what) in pairs {
        let given = text(request, pointer);
        if !given.is_empty() && given != wanted {
            return Err(ApiError::bad_request(format!(
                "the {what} in the token request ({given}) is not that of the service account ({wanted})"
            )));
        }
    }
    Ok(())
}

fn validate(request: &Value) -> Result<(), ApiError> {
    let path = Path::new("spec").child("expirationSeconds");
    let Some(seconds) = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64) else { return Ok(()) };
    let mut errors = Vec::new();
    if seconds < MIN_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &errors))
    }
}

/// The private claims: the account and, where the request binds the token to an object, that object as it is now.
async fn bound_objects(reader: &dyn Reader, account: &Value, request: &Value) -> Result<Kubernetes, ApiError> {
    let mut claims = Kubernetes {
        namespace: namespace(account).to_owned(),
        serviceaccount: reference(account),
        ..Kubernetes::default()
    };
    let Some(bound) = request.pointer("/spec/boundObjectRef").filter(|bound| !bound.is_null()) else {
        return Ok(claims);
    };
    let (kind, version, object) = (text(bound, "/kind"), text(bound, "/apiVersion"), text(bound, "/name"));
    if version != "v1" && !version.is_empty() {
        return Err(cannot_bind(version, kind));
    }
    match kind {
        "Pod" => {
            let pod = find(reader, "pods", namespace(account), object).await?;
            same_uid(bound, &pod, "pods", object)?;
            let runs_as = text(&pod, "/spec/serviceAccountName");
            if runs_as != name(account) {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    name(account)
                )));
            }
            claims.pod = Some(reference(&pod));
            claims.node = node_of(reader, &pod);
        }
        "Secret" => {
            let secret = find(reader, "secrets", namespace(account), object).await?;
            same_uid(bound, &secret, "secrets", object)?;
            claims.secret = Some(reference(&secret));
        }
        "Node" => {
            let node = find(reader, "nodes", "", object).await?;
            same_uid(bound, &node, "nodes", object)?;
            claims.node = Some(reference(&node));
        }
        _ => return Err(cannot_bind(version, kind)),
    }
    Ok(claims)
}

fn cannot_bind(version: &str, kind: &str) -> ApiError {
    ApiError::bad_request(format!("cannot bind token for object of type {version}, Kind={kind}"))
}

fn reference(object: &Value) -> ObjectRef {
    ObjectRef { name: name(object).to_owned(), uid: uid(object).to_owned() }
}

/// The node that a pod runs on; without a uid where the node is not known.
fn node_of(reader: &dyn Reader, pod: &Value) -> Option<ObjectRef> {
    let node = text(pod, "/spec/nodeName");
    if node.is_empty() {
        return None;
    }
    let known = reader.get(GroupResource::new("", "nodes"), "", node);
    let uid = known.as_deref().map(uid).unwrap_or_default().to_owned();
    Some(ObjectRef { name: node.to_owned(), uid })
}

async fn find(
    reader: &dyn Reader,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<std::sync::Arc<Value>, ApiError> {
    let key = GroupResource::new("", resource);
    if let Some(object) = reader.get(key, namespace, name) {
        return Ok(object);
    }
    let found = reader.get_consistent(key, namespace, name).await?;
    found.ok_or_else(|| ApiError::not_found("", resource, name))
}

fn same_uid(bound: &Value, object: &Value, resource: &str, name: &str) -> Result<(), ApiError> {
    let wanted = text(bound, "/uid");
    if wanted.is_empty() || wanted == uid(object) {
        return Ok(());
    }
    let detail = format!(
        "the UID in the bound object reference ({wanted}) does not match the UID in record. \
         The object might have been deleted and then recreated"
    );
    Err(ApiError::conflict("", resource, name, &detail))
}
