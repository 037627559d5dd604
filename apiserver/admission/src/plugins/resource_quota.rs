//! ResourceQuota: nothing is created or grows beyond what the quotas of its namespace allow.
//!
//! Kubernetes documentation, "Resource Quotas". What is used is kept in the quotas' status, and written there before the
//! object is: requests that run at once, at this server or others, cannot both take the last of something.

mod charges;
mod configuration;
mod evaluate;
mod request;

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::clock::Clock;
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::namespaced::Namespaced;
use crate::{Attributes, Operation, Plugin, Writer};
use charges::{Charges, Refusal};
pub use configuration::{Configuration, KINDS};
use request::Request;

const QUOTAS: GroupResource<'static> = GroupResource::new("", "resourcequotas");

pub struct ResourceQuota {
    quotas: Namespaced,
    charges: Arc<Charges>,
}

impl ResourceQuota {
    pub fn new(reader: Arc<dyn Reader>, writer: Arc<dyn Writer>, clock: Clock, configuration: Configuration) -> Self {
        let charges = Arc::new(Charges::new(reader, writer, clock, configuration.limited_resources));
        ResourceQuota { quotas: Namespaced::default(), charges }
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        // Events pass: what tells of a full namespace must not be stopped by it.
        let is_exempt = a.is_any("", "namespaces") || a.is_any("", "events") || a.is_any("events.k8s.io", "events");
        let changes_usage = match (a.operation, a.subresource) {
            (Operation::Create, "") => true,
            (Operation::Update, "") => a.is("", "services") || a.is("", "persistentvolumeclaims"),
            (Operation::Update, "resize") => a.is_any("", "pods"),
            _ => false,
        };
        !a.namespace.is_empty() && changes_usage && !is_exempt
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(new) = object.filter(|_| self.quotas.any(a.namespace) || self.charges.limits_without_quota()) else {
            return Ok(());
        };
        let request = Request::of(a, new, old).map_err(ApiError::internal)?;
        self.charges.charge(a.namespace, request, a.dry_run).await.map_err(|refusal| match refusal {
            Refusal::Forbidden(detail) => a.forbidden(object, &detail),
            Refusal::Failed(error) => error,
        })
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for ResourceQuota {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[QUOTAS]
    }

    fn observe(&self, change: &Change<'_>) {
        self.quotas.observe(change);
    }
}

#[cfg(test)]
mod tests;
