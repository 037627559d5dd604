//! NamespaceExists and NamespaceAutoProvision: what is done to requests for a namespace that is not there.

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_auth::clock::Clock;
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{Attributes, Operation, Plugin, Writer};

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");

async fn exists(reader: &dyn Reader, namespace: &str) -> Result<bool, ApiError> {
    Ok(reader.get(NAMESPACES, "", namespace).is_some()
        || reader.get_consistent(NAMESPACES, "", namespace).await?.is_some())
}

fn is_in_namespace(a: &Attributes<'_>) -> bool {
    !a.namespace.is_empty() && !a.is_any("", "namespaces") && a.operation != Operation::Connect
}

/// Refuses the request.
pub struct NamespaceExists {
    reader: Arc<dyn Reader>,
}

impl NamespaceExists {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        NamespaceExists { reader }
    }
}

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        is_in_namespace(a)
    }

    async fn validate(&self, a: &Attributes<'_>, _: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        if exists(&*self.reader, a.namespace).await? {
            return Ok(());
        }
        Err(ApiError::not_found("", "namespaces", a.namespace))
    }
}

/// Makes the namespace.
pub struct NamespaceAutoProvision {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
    clock: Clock,
}

impl NamespaceAutoProvision {
    pub fn new(reader: Arc<dyn Reader>, writer: Arc<dyn Writer>, clock: Clock) -> Self {
        NamespaceAutoProvision { reader, writer, clock }
    }

    fn namespace(&self, name: &str) -> Value {
        let mut namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        meta::set_uid(&mut namespace, &uuid::Uuid::new_v4().to_string());
        meta::set_creation_timestamp(&mut namespace, &(self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        namespace
    }
}

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        is_in_namespace(a) && a.operation == Operation::Create && a.subresource.is_empty()
    }

    async fn admit(&self, a: &Attributes<'_>, _: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        if !a.dry_run && !exists(&*self.reader, a.namespace).await? {
            // Made by another request meanwhile is as good.
            self.writer.write(NAMESPACES, &self.namespace(a.namespace)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{State, admit, attributes};

    #[tokio::test]
    async fn a_namespace_that_is_not_there_is_made_or_missed() {
        let state = Arc::new(State::default());
        let exists = NamespaceExists::new(state.clone());
        let provision = NamespaceAutoProvision::new(state.clone(), state.clone(), apiserver_auth::clock::system());
        let mut a = attributes(Operation::Create, "", "pods");
        a.dry_run = true;
        let pod = json!({"metadata": {"name": "p"}});
        admit(&provision, &a, pod.clone()).await.expect("admitted");
        let error = admit(&exists, &a, pod.clone()).await.expect_err("a trial makes nothing");
        assert_eq!((error.code(), error.0.message.as_str()), (404, "namespaces \"dev\" not found"));
        a.dry_run = false;
        for _ in 0..2 {
            admit(&provision, &a, pod.clone()).await.expect("admitted");
        }
        assert!(admit(&exists, &a, pod).await.is_ok());
        let made = state.get(NAMESPACES, "", "dev").expect("a namespace");
        assert_eq!((made["status"]["phase"].as_str(), meta::resource_version(&made)), (Some("Active"), "1"));
        assert!(!exists.handles(&attributes(Operation::Create, "", "nodes")));
    }
}
