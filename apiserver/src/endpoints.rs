//! From a request that may be served to the endpoint that serves it. Generic over the resource: there are no handlers per kind.

pub mod create;
pub mod delete;
pub mod general;
mod parts;
pub mod patch;
pub mod read;
pub mod reviews;
pub mod subresources;
pub mod update;
pub mod watch;
pub mod write;

use std::sync::Arc;

use apimachinery::ApiError;
use apimachinery::status::Status;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::body::Body;
use crate::flowcontrol::Admitted;
use crate::negotiate::{self, Encoding, Form, Negotiated};
use crate::present::{IncludeObject, Presenter};
use crate::respond;
use crate::selection::Selection;
use crate::server::{Context, Server};
use update::Part;
use write::{Call, Warnings};

/// The largest body of a request, in bytes.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

type Answer = Result<Response<Body>, ApiError>;

/// Serves a request.
pub async fn dispatch(server: Arc<Server>, context: Context, request: Request<Incoming>) -> Answer {
    if !context.info.is_resource {
        return general::answer(&server, &context, request.method(), request.uri().path(), request.headers()).await;
    }
    let info = &context.info;
    let served = server.resources.find(&info.group, &info.version, &info.resource);
    let served = served.ok_or_else(ApiError::no_such_resource)?;
    if !info.namespace.is_empty() && !served.resource.namespaced && info.resource != "namespaces" {
        return Err(ApiError::no_such_resource());
    }
    if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "log" | "proxy") {
        return crate::connect::answer(server, &context, &served, request).await;
    }
    let (head, body) = request.into_parts();
    let body = read_body(&head.method, body).await?;
    let call = Call {
        server: &server,
        served: &served,
        info,
        query: &context.query,
        headers: &head.headers,
        user: &context.user,
        warnings: Warnings::default(),
        admitted: parking_lot::Mutex::new(context.admitted),
    };
    call.warnings.add(served.strategy.deprecation().map(str::to_owned));
    let answer =
        if info.subresource.is_empty() { call.main(&body).await } else { call.subresource(&head.method, &body).await };
    let mut response = answer.unwrap_or_else(|error| respond::error(&error, negotiate::accept(&head.headers).ok()));
    respond::warn(&mut response, &call.warnings.take());
    Ok(response)
}

async fn read_body(method: &Method, body: Incoming) -> Result<Bytes, ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(Bytes::new());
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::entity_too_large(MAX_BODY)),
        Err(error) => Err(ApiError::bad_request(format!("unable to read the body: {error}"))),
    }
}

impl Call<'_> {
    fn presenter(&self) -> Result<Presenter, ApiError> {
        let custom = self.served.custom.is_some();
        // Custom resources have no protobuf messages, only their metadata has.
        let can = |it: &Negotiated| !custom || it.encoding != Encoding::Protobuf || it.form == Form::Metadata;
        let negotiated = negotiate::accept_if(self.headers, can)?;
        if negotiated.form == Form::AggregatedDiscovery
            || (negotiated.form == Form::Table && negotiated.encoding == Encoding::Protobuf)
        {
            return Err(ApiError::not_acceptable(&[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ]));
        }
        let include_object = IncludeObject::parse(self.query.get("includeObject"))?;
        Ok(Presenter { served: self.served.clone(), negotiated, include_object })
    }

    async fn main(&self, body: &[u8]) -> Answer {
        let resource = &self.served.resource;
        if !resource.has_verb(self.info.verb) {
            return Err(ApiError::method_not_supported(self.group(), self.plural(), self.info.verb));
        }
        // New objects are posted to collections; the rest of the writes are to objects.
        let wrong_place = match self.info.verb {
            "create" => !self.info.name.is_empty(),
            "update" | "patch" | "delete" => self.info.name.is_empty(),
            _ => false,
        };
        if wrong_place {
            return Err(ApiError::method_not_supported(self.group(), self.plural(), self.info.verb));
        }
        if resource.namespaced
            && self.info.namespace.is_empty()
            && !matches!(self.info.verb, "list" | "watch" | "deletecollection")
            && !reviews::is_review(resource)
        {
            return Err(ApiError::no_such_resource());
        }
        if let Some(answer) = reviews::answer(self, body).await {
            return answer;
        }
        let presenter = self.presenter()?;
        let store = &self.server.store;
        match self.info.verb {
            "get" => {
                let object = read::get(store, self.served, &self.info.namespace, &self.info.name, self.query).await?;
                respond::object(&presenter, StatusCode::OK, &object)
            }
            "list" => {
                let selection = Selection::of(self.served, self.info, self.query)?;
                let list = read::list(store, &selection, self.query).await?;
                let body = presenter.list(list.items, &list.position)?;
                Ok(respond::with_type(StatusCode::OK, presenter.negotiated.encoding.content_type(), body))
            }
            "watch" => {
                let selection = Selection::of(self.served, self.info, self.query)?;
                let content_type = presenter.negotiated.encoding.stream_type();
                let custom = self.served.custom.as_ref();
                let shutdown = custom.map_or(&self.server.shutdown, |custom| &custom.end).clone();
                let body =
                    watch::watch(store, selection, presenter, self.query, shutdown, self.take_admitted()).await?;
                Ok(respond::with_type(StatusCode::OK, content_type, body))
            }
            "create" => {
                let object = self.create(body).await?;
                self.take_effect(&object).await;
                respond::object(&presenter, StatusCode::CREATED, &object)
            }
            "update" => {
                let (code, object) = self.update(body, Part::Main).await?;
                self.take_effect(&object).await;
                respond::object(&presenter, code, &object)
            }
            "patch" => {
                let (code, object) = self.patch(body, Part::Main).await?;
                self.take_effect(&object).await;
                respond::object(&presenter, code, &object)
            }
            "delete" => {
                let options = self.delete_options(body)?;
                let deleted = self.delete(&self.info.name, &options).await?;
                match self.delete_status(&deleted) {
                    Some(status) => self.status(presenter.negotiated, StatusCode::OK, &status),
                    None => respond::object(&presenter, StatusCode::OK, deleted.object()),
                }
            }
            "deletecollection" => {
                let options = self.delete_options(body)?;
                let list = self.delete_collection(&options).await?;
                let body = presenter.list(list.items, &list.position)?;
                Ok(respond::with_type(StatusCode::OK, presenter.negotiated.encoding.content_type(), body))
            }
            verb => Err(ApiError::method_not_supported(self.group(), self.plural(), verb)),
        }
    }

    fn take_admitted(&self) -> Admitted {
        std::mem::take(&mut self.admitted.lock())
    }

    /// Who has written a definition finds it in effect: the cache has shown it to those who serve its objects.
    async fn take_effect(&self, object: &apiserver_storage::Object) {
        if self.plural() != "customresourcedefinitions" || self.served.custom.is_some() {
            return;
        }
        if let Err(error) = self.server.store.at_least(object.revision).await {
            // It was written, and takes effect later.
            tracing::debug!(%error, name = object.name(), "the cache does not have a definition yet");
        }
    }

    fn status(&self, negotiated: Negotiated, code: StatusCode, status: &Status) -> Answer {
        let value = serde_json::to_value(status).map_err(ApiError::internal)?;
        respond::value(Negotiated { form: Form::Whole, ..negotiated }, code, &value)
    }

    async fn subresource(&self, method: &Method, body: &[u8]) -> Answer {
        let resource = &self.served.resource;
        let known = resource.subresource(&self.info.subresource).ok_or_else(ApiError::no_such_resource)?;
        if !known.verbs.iter().any(|verb| verb == self.info.verb) {
            return Err(ApiError::method_not_supported(self.group(), self.plural(), method.as_str()));
        }
        let presenter = self.presenter()?;
        let object = |object| respond::object(&presenter, StatusCode::OK, &object);
        let value = |code, value: Value| respond::value(presenter.negotiated, code, &value);
        match (self.info.subresource.as_str(), self.info.verb) {
            ("scale", "get") => value(StatusCode::OK, self.scale_of(&*self.read().await?)?),
            ("scale", "update") => value(StatusCode::OK, self.update_scale(body).await?),
            ("scale", "patch") => value(StatusCode::OK, self.patch_scale(body).await?),
            (_, "get") => object(self.read().await?),
            ("finalize", "update") => object(self.finalize(body).await?),
            (_, "update") => object(self.update(body, Part::of(&self.info.subresource)).await?.1),
            (_, "patch") => object(self.patch(body, Part::of(&self.info.subresource)).await?.1),
            ("binding", "create") => {
                self.bind(body).await?;
                value(StatusCode::CREATED, success(201))
            }
            ("eviction", "create") => {
                self.evict(body).await?;
                value(StatusCode::CREATED, success(201))
            }
            ("token", "create") => value(StatusCode::CREATED, reviews::token(self, body).await?),
            (_, verb) => Err(ApiError::method_not_supported(self.group(), self.plural(), verb)),
        }
    }

    async fn read(&self) -> Result<Arc<apiserver_storage::Object>, ApiError> {
        read::get(&self.server.store, self.served, &self.info.namespace, &self.info.name, self.query).await
    }
}

fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}

/// A call that the server makes itself, with the rights of its own user.
pub fn internal_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("kube-apiserver"));
    headers
}
