//! The server: everything that requests need, and the layers that a request passes, outermost first.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apimachinery::{ApiError, fields};
use apiserver_admission::Chain;
use apiserver_auth::UserInfo;
use apiserver_auth::authentication::{AuthRequest, Authenticated};
use apiserver_auth::authorization::rbac::Rbac;
use apiserver_auth::authorization::{Authorizer, forbidden};
use apiserver_auth::options::Authentication;
use apiserver_auth::user::Attributes;
use apiserver_storage::Store;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::accept::Peer;
use crate::allocators::Allocators;
use crate::body::Body;
use crate::definitions::Definitions;
use crate::endpoints;
use crate::flowcontrol::{Admitted, Limiter};
use crate::impersonation;
use crate::kubelet::KubeletClient;
use crate::metrics::Metrics;
use crate::negotiate;
use crate::request::{Query, RequestInfo};
use crate::respond;
use crate::served::Resources;

/// How long a request may take that is neither a watch nor a stream (`--request-timeout`).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that requests need. Shared by all connections.
pub struct Server {
    pub store: Store,
    pub resources: Arc<Resources>,
    pub definitions: Arc<Definitions>,
    pub authentication: Authentication,
    pub authorizer: Arc<dyn Authorizer>,
    pub rbac: Arc<Rbac>,
    pub admission: Chain,
    pub allocators: Allocators,
    pub kubelet: KubeletClient,
    pub metrics: Metrics,
    pub limiter: Limiter,
    pub health: crate::health::Health,
    /// `host:port` that clients reach this server at.
    pub external_address: String,
    pub shutdown: CancellationToken,
}

/// A request whose head has been read, and who sends it.
pub struct Context {
    pub info: Arc<RequestInfo>,
    pub query: Query,
    pub user: Arc<UserInfo>,
    /// What the request has as long as it runs.
    pub admitted: Admitted,
}

impl Server {
    /// Answers one request. Never fails: failures are answers.
    pub async fn handle(self: Arc<Self>, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(request.uri().query());
        let info = Arc::new(RequestInfo::parse(request.method(), request.uri().path(), &query));
        // The panic guard is outside of everything that could panic, so that one request cannot end the connection of others.
        let answer = AssertUnwindSafe(self.clone().limited(peer, request, info.clone(), query)).catch_unwind().await;
        let mut response = answer.unwrap_or_else(|_| {
            tracing::error!(?info, "a request panicked");
            respond::error(&ApiError::internal("the request failed unexpectedly"), None)
        });
        response.headers_mut().insert("audit-id", audit_id());
        self.metrics.observe(&info, response.status(), started.elapsed());
        response
    }

    /// The timeout is inside of metrics, so that requests that run into it are counted.
    async fn limited(
        self: Arc<Self>,
        peer: &Peer,
        request: Request<Incoming>,
        info: Arc<RequestInfo>,
        query: Query,
    ) -> Response<Body> {
        if is_long_running(&info) {
            return self.authenticated(peer, request, info, query).await;
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, self.authenticated(peer, request, info, query)).await {
            Ok(response) => response,
            Err(_) => respond::error(&ApiError::timeout("request did not complete within the allotted timeout"), None),
        }
    }

    /// Authentication comes before everything that depends on the user: impersonation, then authorization of whom it yields.
    async fn authenticated(
        self: Arc<Self>,
        peer: &Peer,
        mut request: Request<Incoming>,
        info: Arc<RequestInfo>,
        query: Query,
    ) -> Response<Body> {
        let asked = AuthRequest { headers: request.headers(), peer: &peer.certificates, audiences: &[] };
        let user = match self.authentication.authenticator.authenticate(&asked).await {
            Ok(Some(Authenticated { user, .. })) => user,
            Ok(None) => return respond::error(&ApiError::unauthorized(), None),
            Err(error) => {
                tracing::debug!(%error, "authentication failed");
                return respond::error(&ApiError::unauthorized(), None);
            }
        };
        let user = match impersonation::user(&*self.authorizer, user, request.headers()) {
            Ok(user) => user,
            Err(error) => return respond::error(&error, negotiate::accept(request.headers()).ok()),
        };
        // Credentials end here: nothing behind, a proxied kubelet least of all, may see them.
        remove_credentials(request.headers_mut());
        self.admitted(Context { info, query, user: Arc::new(user), admitted: Admitted::Freely }, request).await
    }

    /// Who asks decides whose turn it is. What they may do is only asked of those whose turn it is.
    async fn admitted(self: Arc<Self>, mut context: Context, request: Request<Incoming>) -> Response<Body> {
        let (classified, admitted) = self.limiter.admit(&self, &context, request.uri().path_and_query()).await;
        let mut response = match admitted {
            Ok(admitted) => {
                context.admitted = admitted;
                self.authorized(context, request).await
            }
            Err(refusal) => refusal,
        };
        classified.mark(response.headers_mut());
        response
    }

    async fn authorized(self: Arc<Self>, context: Context, request: Request<Incoming>) -> Response<Body> {
        let negotiated = negotiate::accept(request.headers()).ok();
        let answer = match self.decide(&context, request.uri().path()) {
            Ok(()) => endpoints::dispatch(self, context, request).await,
            Err(refusal) => Err(refusal),
        };
        answer.unwrap_or_else(|error| respond::error(&error, negotiated))
    }

    /// `Forbidden`, where the user may not do this.
    fn decide(&self, context: &Context, path: &str) -> Result<(), ApiError> {
        let selected = selected_name(&context.info, &context.query);
        let asked = attributes(context, path, &selected);
        let decision = self.authorizer.authorize(&context.user, &asked);
        if decision.allowed() { Ok(()) } else { Err(forbidden(&context.user, &asked, decision.reason())) }
    }

    /// `Forbidden`, where the user may not do to the resource of a request what another verb stands for.
    pub fn check_right(&self, user: &UserInfo, info: &RequestInfo, verb: &str) -> Result<(), ApiError> {
        let asked = Attributes {
            verb,
            is_resource_request: true,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            ..Attributes::default()
        };
        let decision = self.authorizer.authorize(user, &asked);
        if decision.allowed() { Ok(()) } else { Err(forbidden(user, &asked, decision.reason())) }
    }
}

/// The one name that the field selector of a list, watch or deletecollection allows; rights to a named object reach that far.
pub fn selected_name(info: &RequestInfo, query: &Query) -> String {
    if !info.name.is_empty() || !matches!(info.verb, "list" | "watch" | "deletecollection") {
        return String::new();
    }
    let selector = fields::Selector::parse(query.get("fieldSelector"));
    let name = selector.ok().and_then(|selector| selector.requires_exact_match("metadata.name").map(str::to_owned));
    name.unwrap_or_default()
}

/// What the authorizer is asked.
fn attributes<'a>(context: &'a Context, path: &'a str, selected: &'a str) -> Attributes<'a> {
    let info = &context.info;
    Attributes {
        verb: info.verb,
        is_resource_request: info.is_resource,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: if info.name.is_empty() { selected } else { &info.name },
        path,
        field_selector: context.query.get("fieldSelector"),
        label_selector: context.query.get("labelSelector"),
    }
}

/// Whether the request lasts as long as its client wants.
pub fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch" || matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

fn audit_id() -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    let id = uuid::Uuid::new_v4();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer)).unwrap_or(HeaderValue::from_static(""))
}

fn remove_credentials(headers: &mut HeaderMap) {
    headers.remove(http::header::AUTHORIZATION);
    apiserver_auth::authentication::bearer::strip_websocket_token(headers);
}

/// 404 for a path that is none of ours.
pub fn unknown_path() -> Response<Body> {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_to_a_named_object_reach_to_lists_and_watches_of_it_alone() {
        let selected = |verb: &'static str, query: &str| {
            let info = RequestInfo { verb, ..RequestInfo::default() };
            selected_name(&info, &Query::parse(Some(query)))
        };
        assert_eq!(selected("watch", "fieldSelector=metadata.name%3Dn1"), "n1");
        assert_eq!(selected("list", "fieldSelector=metadata.name=n1,metadata.namespace=x"), "n1");
        assert_eq!(selected("list", "fieldSelector=metadata.name!=n1"), "");
        assert_eq!(selected("list", ""), "");
        assert_eq!(selected("get", "fieldSelector=metadata.name=n1"), "");
    }
}
