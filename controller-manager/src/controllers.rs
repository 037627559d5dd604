//! The table of controllers: name → start function. Adding one is a row here; see the crate's top for how.

use std::collections::HashSet;

use futures::future::BoxFuture;

use crate::context::{Context, Error};

/// Starts a controller and runs it until shutdown.
type Start = fn(Context) -> BoxFuture<'static, Result<(), Error>>;

/// One row of the table.
pub struct Descriptor {
    /// Upstream's name.
    pub name: &'static str,
    /// The short name, which `--controllers` takes too.
    pub alias: &'static str,
    /// Whether `*` includes it.
    pub default_on: bool,
    start: Start,
}

impl Descriptor {
    /// Starts the controller.
    pub fn start(&self, ctx: Context) -> BoxFuture<'static, Result<(), Error>> {
        (self.start)(ctx)
    }
}

/// A row: name, alias, whether it is on by default, and the module whose `start` it is.
macro_rules! controller {
    ($name:literal, $alias:literal, $default_on:literal, $($start:ident)::+) => {
        Descriptor { name: $name, alias: $alias, default_on: $default_on, start: |ctx| Box::pin(crate::$($start)::+(ctx)) }
    };
}

/// All controllers.
pub const CONTROLLERS: &[Descriptor] = &[
    controller!("endpoints-controller", "endpoint", true, endpoints::start),
    controller!("endpointslice-controller", "endpointslice", true, endpointslice::start),
    controller!("endpointslice-mirroring-controller", "endpointslicemirroring", true, endpointslice_mirroring::start),
    controller!("disruption-controller", "disruption", true, disruption::start),
    controller!("serviceaccount-token-controller", "serviceaccount-token", true, serviceaccount_token::start),
    controller!("resourcequota-controller", "resourcequota", true, resourcequota::start),
    controller!("daemonset-controller", "daemonset", true, daemonset::start),
    controller!("deployment-controller", "deployment", true, deployment::start),
    controller!("replicaset-controller", "replicaset", true, replicaset::start),
    controller!("replicationcontroller-controller", "replicationcontroller", true, replicationcontroller::start),
    controller!("statefulset-controller", "statefulset", true, statefulset::start),
    controller!("job-controller", "job", true, job::start),
    controller!("cronjob-controller", "cronjob", true, cronjob::start),
    controller!("ttl-after-finished-controller", "ttl-after-finished", true, ttl_after_finished::start),
    controller!("pod-garbage-collector-controller", "podgc", true, podgc::start),
    controller!("node-ipam-controller", "nodeipam", true, node_ipam::start),
    controller!("node-lifecycle-controller", "nodelifecycle", true, node_lifecycle::start),
    controller!("taint-eviction-controller", "taint-eviction-controller", true, taint_eviction::start),
    controller!("namespace-controller", "namespace", true, namespace::start),
    controller!("serviceaccount-controller", "serviceaccount", true, serviceaccount::start),
    controller!("root-ca-certificate-publisher-controller", "root-ca-cert-publisher", true, root_ca_publisher::start),
    controller!("certificatesigningrequest-approving-controller", "csrapproving", true, certificates::approver::start),
    controller!("certificatesigningrequest-signing-controller", "csrsigning", true, certificates::signer::start),
    controller!("certificatesigningrequest-cleaner-controller", "csrcleaner", true, certificates::cleaner::start),
    controller!("garbage-collector-controller", "garbagecollector", true, garbage_collector::start),
    controller!("clusterrole-aggregation-controller", "clusterrole-aggregation", true, clusterrole_aggregation::start),
    controller!(
        "validatingadmissionpolicy-status-controller",
        "validatingadmissionpolicy-status",
        true,
        policy_status::start
    ),
    controller!("service-cidr-controller", "service-cidr-controller", true, service_cidr::start),
    controller!("bootstrap-signer-controller", "bootstrapsigner", false, bootstrap::signer::start),
    controller!("token-cleaner-controller", "tokencleaner", false, bootstrap::token_cleaner::start),
];

/// Controllers that upstream has and ours does not yet: naming one is an error that says so, `-name` is fine.
const NOT_YET: &[&str] = &[
    "attachdetach",
    "device-taint-eviction-controller",
    "ephemeral-volume",
    "horizontalpodautoscaling",
    "persistentvolume-binder",
    "persistentvolume-expander",
    "pv-protection",
    "pvc-protection",
    "resource-claim-controller",
    "storage-version-migrator-controller",
    "cloud-node-lifecycle",
    "node-route",
    "service",
];

/// Why `--controllers` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// No controller has that name.
    #[error("--controllers: {0:?} is not a controller")]
    Unknown(String),
    /// The controller is upstream's and not built yet.
    #[error("--controllers: Corten does not have the controller {0:?} yet")]
    NotYet(String),
}

/// The controllers that `--controllers` selects, in the table's order.
pub fn select(selection: &[String]) -> Result<Vec<&'static Descriptor>, SelectionError> {
    let mut on = HashSet::new();
    let mut off = HashSet::new();
    let mut all = false;
    for item in selection {
        let (name, set) = match item.strip_prefix('-') {
            Some(name) => (name, &mut off),
            None => (item.as_str(), &mut on),
        };
        if name == "*" {
            all |= !item.starts_with('-');
            continue;
        }
        match CONTROLLERS.iter().find(|row| row.name == name || row.alias == name) {
            Some(row) => {
                set.insert(row.name);
            }
            None if item.starts_with('-') && NOT_YET.contains(&name) => {}
            None if NOT_YET.contains(&name) => return Err(SelectionError::NotYet(name.to_owned())),
            None => return Err(SelectionError::Unknown(name.to_owned())),
        }
    }
    let wanted = |row: &&Descriptor| on.contains(row.name) || (!off.contains(row.name) && all && row.default_on);
    Ok(CONTROLLERS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &[&str]) -> Result<Vec<&'static str>, SelectionError> {
        let selection: Vec<String> = selection.iter().map(|&item| item.to_owned()).collect();
        Ok(select(&selection)?.into_iter().map(|row| row.name).collect())
    }

    #[test]
    fn selections_add_and_remove() {
        let default: Vec<&str> = CONTROLLERS.iter().filter(|row| row.default_on).map(|row| row.name).collect();
        assert_eq!(names(&["*"]).unwrap(), default);
        assert!(!names(&["*", "-deployment"]).unwrap().contains(&"deployment-controller"));
        assert_eq!(names(&["replicaset-controller"]).unwrap(), ["replicaset-controller"]);
        assert_eq!(names(&["nonsense"]), Err(SelectionError::Unknown("nonsense".into())));
        assert_eq!(names(&["service"]), Err(SelectionError::NotYet("service".into())));
        assert!(names(&["*", "-service"]).is_ok());
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let mut seen = HashSet::new();
        for row in CONTROLLERS {
            assert!(seen.insert(row.name), "{}", row.name);
            assert!(row.alias == row.name || seen.insert(row.alias), "{}", row.alias);
        }
    }
}
