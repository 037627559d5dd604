//! What the server does after its start: the objects of a new cluster, the `kubernetes` Service and its endpoints, and repair of
//! allocations.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apimachinery::{ApiError, meta};
use apiserver_auth::UserInfo;
use apiserver_auth::bootstrap::{self, Plan};
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::endpoints::delete::Options;
use crate::endpoints::internal_headers;
use crate::endpoints::write::Call;
use crate::flowcontrol;
use crate::managed::Writer;
use crate::request::{Query, RequestInfo};
use crate::served::Served;
use crate::server::Server;

/// How many objects of a new cluster are written at once.
const CONCURRENT_WRITES: usize = 16;
/// Pause before a failed start-up write is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often allocations are compared with what Services have.
const REPAIR_INTERVAL: Duration = Duration::from_secs(180);

/// The user of the server's own writes.
fn own_user() -> UserInfo {
    UserInfo { name: "system:apiserver".into(), groups: vec!["system:masters".into()], ..UserInfo::default() }
}

/// Makes calls as the server itself, through the same path as everyone's.
pub struct Own<'a> {
    pub server: &'a Server,
    pub user: UserInfo,
    pub headers: HeaderMap,
    pub query: Query,
}

impl<'a> Own<'a> {
    pub fn new(server: &'a Server) -> Self {
        Own { server, user: own_user(), headers: internal_headers(), query: Query::default() }
    }

    /// A call to a resource.
    pub fn call<'b>(&'b self, served: &'b Arc<Served>, info: &'b RequestInfo) -> Call<'b> {
        Call {
            server: self.server,
            served,
            info,
            query: &self.query,
            headers: &self.headers,
            user: &self.user,
            warnings: Default::default(),
            admitted: Default::default(),
        }
    }

    /// Brings one object of a new cluster to what it should be.
    pub async fn write(&self, object: bootstrap::Object) -> Result<(), ApiError> {
        let plan = |existing: Option<&Value>| bootstrap::plan(existing, &object);
        created(self.create_or(object.group, object.resource, &object.value, plan).await)
    }

    async fn create_or(
        &self,
        group: &str,
        resource: &str,
        value: &Value,
        plan: impl Fn(Option<&Value>) -> Plan,
    ) -> Result<(), ApiError> {
        let served = self.server.resources.builtin_resource(group, resource);
        let (namespace, name) = (meta::namespace(value).to_owned(), meta::name(value).to_owned());
        let mut info = RequestInfo {
            is_resource: true,
            verb: "create",
            group: group.into(),
            version: served.resource.version.clone(),
            namespace,
            resource: resource.into(),
            ..RequestInfo::default()
        };
        let existing = self.server.store.cache().get(&served.key(&info.namespace, &name)).map(|o| o.to_value());
        let plan = plan(existing.as_ref());
        if matches!(plan, Plan::Update(_)) {
            info.name = name.clone();
        }
        let call = self.call(served, &info);
        let writer = Writer { manager: "kube-apiserver".into(), applies: false };
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Create(value) => call.create_value(call.conform(value)?, writer).await.map(|_| ()),
            Plan::Update(value) => {
                call.update(value.to_string().as_bytes(), crate::endpoints::update::Part::Main).await.map(|_| ())
            }
            Plan::Recreate(value) => {
                call.delete(&name, &Options::default()).await?;
                call.create_value(call.conform(value)?, writer).await.map(|_| ())
            }
        }
    }
}

fn if_missing(value: &Value) -> impl Fn(Option<&Value>) -> Plan + use<> {
    let wanted = value.clone();
    move |existing| if existing.is_none() { Plan::Create(wanted.clone()) } else { Plan::Nothing }
}

/// Replaces what is there when the wanted fields differ.
fn if_different(value: &Value, fields: &'static [&'static str]) -> impl Fn(Option<&Value>) -> Plan + use<> {
    let wanted = value.clone();
    move |existing| match existing {
        None => Plan::Create(wanted.clone()),
        Some(existing) if fields.iter().all(|field| existing[*field] == wanted[*field]) => Plan::Nothing,
        Some(existing) => {
            let mut next = existing.clone();
            for field in fields {
                next[*field] = wanted[*field].clone();
            }
            Plan::Update(next)
        }
    }
}

/// What the hooks need to know beside the server.
pub struct Settings {
    pub advertise: IpAddr,
    pub port: u16,
    pub authentication: apiserver_auth::AuthenticationOptions,
    pub service_ranges: Vec<String>,
}

/// Runs all hooks until shutdown.
pub async fn run(server: Arc<Server>, settings: Settings, shutdown: CancellationToken) {
    let work = async {
        server.store.ready().await;
        until_done("the objects of a new cluster", || bootstrap(&server, &settings)).await;
        server.health.bootstrapped.store(true, Ordering::Release);
        until_done("the kubernetes service", || kubernetes_service(&server, &settings)).await;
        tokio::join!(repair(&server, &settings), keep_flow_control(&server));
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        ((), ()) = async { tokio::join!(work, divide_seats(&server)) } => {}
    }
}

async fn repair(server: &Server, settings: &Settings) {
    let mut ticks = tokio::time::interval(REPAIR_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = server.allocators.repair().await {
            tracing::warn!(%error, "allocations could not be repaired");
        }
        if let Err(error) = kubernetes_service(server, settings).await {
            tracing::warn!(%error, "the kubernetes service could not be brought up to date");
        }
    }
}

async fn divide_seats(server: &Server) {
    if let Some(flow_control) = server.limiter.flow_control() {
        flowcontrol::controller::adjust(flow_control).await;
    }
}

async fn keep_flow_control(server: &Server) {
    if let Some(flow_control) = server.limiter.flow_control() {
        flowcontrol::controller::run(server, flow_control).await;
    }
}

async fn until_done<F: Future<Output = Result<(), ApiError>>>(what: &str, mut step: impl FnMut() -> F) {
    while let Err(error) = step().await {
        tracing::warn!(%error, "{what} could not be written; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

async fn bootstrap(server: &Server, settings: &Settings) -> Result<(), ApiError> {
    let own = Own::new(server);
    let served =
        |object: &bootstrap::Object| server.resources.find(object.group, object.version, object.resource).is_some();
    let all = bootstrap::objects().chain(bootstrap::api_services()).filter(served);
    // Namespaces first: the others may live in them.
    let (namespaces, others): (Vec<_>, Vec<_>) = all.partition(|object| object.resource == "namespaces");
    for step in [namespaces, others] {
        let writes = futures::stream::iter(step).map(|object| own.write(object));
        writes.buffer_unordered(CONCURRENT_WRITES).try_collect::<Vec<()>>().await?;
    }
    let authentication = bootstrap::extension_authentication(&settings.authentication).map_err(ApiError::internal)?;
    created(
        own.create_or("", "configmaps", &authentication.value, if_different(&authentication.value, &["data"])).await,
    )?;
    let range = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": settings.service_ranges}});
    created(own.create_or("networking.k8s.io", "servicecidrs", &range, if_missing(&range)).await)
}

/// Another server may have been first.
fn created(result: Result<(), ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if error.is(apimachinery::Reason::AlreadyExists) => Ok(()),
        other => other,
    }
}

/// The Service that pods reach the API at, and this server as its endpoint.
async fn kubernetes_service(server: &Server, settings: &Settings) -> Result<(), ApiError> {
    let own = Own::new(server);
    let metadata = json!({"name": "kubernetes", "namespace": "default",
        "labels": {"component": "apiserver", "provider": "kubernetes"}});
    let address = server.allocators.first_address().to_string();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": settings.port}]}});
    created(own.create_or("", "services", &service, if_missing(&service)).await)?;
    if settings.advertise.is_loopback() {
        // Endpoints may not be on the loopback; such a server is only for this machine.
        return Ok(());
    }
    let metadata = json!({"name": "kubernetes", "namespace": "default",
        "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{"addresses": [{"ip": settings.advertise.to_string()}],
            "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}]}]});
    created(own.create_or("", "endpoints", &endpoints, if_different(&endpoints, &["subsets"])).await)?;
    let metadata = json!({"name": "kubernetes", "namespace": "default",
        "labels": {"kubernetes.io/service-name": "kubernetes"}});
    let family = if settings.advertise.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": family,
        "endpoints": [{"addresses": [settings.advertise.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}]});
    created(
        own.create_or("discovery.k8s.io", "endpointslices", &slice, if_different(&slice, &["endpoints", "ports"]))
            .await,
    )
}
