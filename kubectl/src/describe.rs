//! Descriptions of objects: a table says for each kind what else has to be asked for, and which pure function writes the
//! page.

mod autoscaler;
mod claims;
mod config_map;
mod containers;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption_budget;
mod endpoint_slice;
mod endpoints;
mod env;
mod events;
mod generic;
mod ingress;
mod job;
mod namespace;
mod network_policy;
mod node;
mod page;
mod pod;
mod priority_class;
mod probe;
mod quota;
mod rbac;
mod related;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
mod storage_class;
mod template;
mod time;
mod volumes;

use apimachinery::labels::Selector;
use jiff::Timestamp;
use serde_json::Value;

pub use deployment::without_hash;
pub use related::{Related, Wanted};

use crate::api::Client;
use crate::error::{Error, Result};
use crate::fields::Fields;
use page::Page;

/// What a description is made of.
pub struct Subject<'a> {
    pub object: &'a Value,
    pub now: Timestamp,
    related: Related,
}

impl<'a> Subject<'a> {
    /// An object with what was found about it.
    pub fn new(object: &'a Value, related: Related, now: Timestamp) -> Self {
        Self { object, now, related }
    }

    /// What else was asked for; nothing where the server would not say.
    fn related(&self, wanted: Wanted) -> &[Value] {
        self.related.found(wanted).unwrap_or_default()
    }

    /// What else was asked for, or why the server would not say.
    fn tried(&self, wanted: Wanted) -> std::result::Result<&[Value], &Error> {
        self.related.found(wanted)
    }
}

/// How one kind is described.
struct Describer {
    group: &'static str,
    kind: &'static str,
    /// What else is asked for.
    wanted: &'static [Wanted],
    /// What must be answered, or the object is not described.
    needed: &'static [Wanted],
    page: fn(&Subject<'_>) -> Page,
    /// Whether events stand at the end.
    events: bool,
}

const fn of(group: &'static str, kind: &'static str, page: fn(&Subject<'_>) -> Page) -> Describer {
    Describer { group, kind, wanted: &[], needed: &[], page, events: true }
}

impl Describer {
    const fn wanting(self, wanted: &'static [Wanted]) -> Self {
        Self { wanted, ..self }
    }

    const fn needing(self, needed: &'static [Wanted]) -> Self {
        Self { wanted: needed, needed, ..self }
    }

    const fn without_events(self) -> Self {
        Self { events: false, ..self }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";

static DESCRIBERS: &[Describer] = &[
    of("", "Pod", pod::describe),
    of("", "ReplicationController", replica_set::replication_controller).needing(&[Wanted::PodsOfSelector]),
    of("", "Secret", secret::describe).without_events(),
    of("", "Service", service::describe).wanting(&[Wanted::EndpointSlices]),
    of("", "ServiceAccount", service_account::describe).wanting(&[Wanted::Secrets]),
    of("", "Node", node::describe).wanting(&[Wanted::PodsOnNode, Wanted::Lease]),
    of("", "LimitRange", quota::limit_range).without_events(),
    of("", "ResourceQuota", quota::resource_quota).without_events(),
    of("", "PersistentVolume", claims::volume),
    of("", "PersistentVolumeClaim", claims::describe).needing(&[Wanted::Pods]),
    of("", "Namespace", namespace::describe).wanting(&[Wanted::Quotas, Wanted::LimitRanges]).without_events(),
    of("", "Endpoints", endpoints::describe),
    of("", "ConfigMap", config_map::describe),
    of("discovery.k8s.io", "EndpointSlice", endpoint_slice::describe),
    of("autoscaling", "HorizontalPodAutoscaler", autoscaler::describe),
    of(NETWORKING, "Ingress", ingress::describe).wanting(&[Wanted::AllEndpointSlices, Wanted::Services]),
    of(NETWORKING, "IngressClass", ingress::class),
    of(NETWORKING, "ServiceCIDR", service_cidr::describe),
    of(NETWORKING, "IPAddress", service_cidr::address),
    of(NETWORKING, "NetworkPolicy", network_policy::describe).without_events(),
    of("batch", "Job", job::describe),
    of("batch", "CronJob", cron_job::describe),
    of("apps", "StatefulSet", stateful_set::describe).needing(&[Wanted::PodsOfSelector]),
    of("apps", "Deployment", deployment::describe).wanting(&[Wanted::ReplicaSets]),
    of("apps", "DaemonSet", daemon_set::describe).needing(&[Wanted::PodsOfSelector]),
    of("apps", "ReplicaSet", replica_set::describe).wanting(&[Wanted::PodsOfSelector]),
    of("storage.k8s.io", "StorageClass", storage_class::describe),
    of("storage.k8s.io", "CSINode", storage_class::csi_node),
    of("storage.k8s.io", "VolumeAttributesClass", storage_class::attributes_class),
    of("policy", "PodDisruptionBudget", disruption_budget::describe),
    of(RBAC, "Role", rbac::role).without_events(),
    of(RBAC, "ClusterRole", rbac::role).without_events(),
    of(RBAC, "RoleBinding", rbac::binding).without_events(),
    of(RBAC, "ClusterRoleBinding", rbac::binding).without_events(),
    of("scheduling.k8s.io", "PriorityClass", priority_class::describe),
];

static GENERIC: Describer = of("", "", generic::describe);

/// Asks for what a description of the object needs, and writes it.
///
/// # Errors
/// When the server does not answer what the kind cannot do without.
pub async fn describe(
    client: &Client,
    object: &Value,
    show_events: bool,
    chunk: u64,
    now: Timestamp,
) -> Result<String> {
    let group = object.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = object.text("kind");
    let describer = DESCRIBERS.iter().find(|one| one.group == group && one.kind == kind).unwrap_or(&GENERIC);
    let mut wanted = describer.wanted.to_vec();
    if describer.events && show_events {
        wanted.push(Wanted::Events);
    }
    let mut related = related::gather(client, object, &wanted, chunk).await;
    for needed in describer.needed {
        related.need(*needed)?;
    }
    let subject = Subject::new(object, related, now);
    let mut page = (describer.page)(&subject);
    if let (true, Ok(found)) = (describer.events && show_events, subject.tried(Wanted::Events)) {
        events::describe(&mut page, found, now);
    }
    Ok(page.finish())
}

/// A pod template as roll-outs show it: with the tabs that elsewhere become columns.
pub fn raw_template(template: &Value) -> String {
    let mut page = Page::default();
    template::describe(&mut page, template);
    page.raw()
}

/// A label selector in words, `<none>` where it selects by nothing.
fn selector(value: &Value) -> String {
    match Selector::from_label_selector(Some(value)) {
        Ok(selector) if selector.is_empty() => page::NONE.to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}

/// A label selector in words, nothing where it selects by nothing.
fn bare_selector(value: &Value) -> String {
    Selector::from_label_selector(Some(value)).map_or_else(|error| error.to_string(), |selector| selector.to_string())
}

/// A condition's cells: type, status, times, reason and message.
fn condition(condition: &Value, separator: &str, times: &[&str]) -> String {
    let mut cells = vec![condition.text("type").to_owned(), condition.text("status").to_owned()];
    cells.extend(times.iter().map(|field| time::rfc1123(condition.at(field))));
    cells.extend([condition.text("reason").to_owned(), condition.text("message").to_owned()]);
    cells.join(separator)
}

/// The conditions of deployments and the like, where there are any.
fn short_conditions(page: &mut Page, object: &Value) {
    let conditions = object.list("status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus\tReason");
    page.line(1, "----\t------\t------");
    for one in conditions {
        page.line(1, format_args!("{} \t{}\t{}", one.text("type"), one.text("status"), one.text("reason")));
    }
}
