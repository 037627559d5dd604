//! NamespaceLifecycle: nothing is written to a namespace that is not there, nothing is created in one that goes away, and
//! three namespaces stay.

use std::collections::HashMap;
use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::clock::Clock;
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Operation, Plugin};

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// For how long after a deletion the cache is not trusted about the namespace.
const DISTRUST: SignedDuration = SignedDuration::from_secs(30);

pub struct NamespaceLifecycle {
    reader: Arc<dyn Reader>,
    clock: Clock,
    /// Namespaces whose deletion went through here, and when.
    deleted: Mutex<HashMap<String, Timestamp>>,
}

impl NamespaceLifecycle {
    pub fn new(reader: Arc<dyn Reader>, clock: Clock) -> Self {
        NamespaceLifecycle { reader, clock, deleted: Mutex::default() }
    }

    fn note_deletion(&self, namespace: &str) {
        let now = (self.clock)();
        let mut deleted = self.deleted.lock();
        deleted.retain(|_, at| now.duration_since(*at) < DISTRUST);
        deleted.insert(namespace.to_owned(), now);
    }

    fn deleted_lately(&self, namespace: &str) -> bool {
        let deleted = self.deleted.lock();
        deleted.get(namespace).is_some_and(|at| (self.clock)().duration_since(*at) < DISTRUST)
    }

    async fn find(&self, namespace: &str) -> Result<Option<Arc<Value>>, ApiError> {
        if !self.deleted_lately(namespace)
            && let Some(found) = self.reader.get(NAMESPACES, "", namespace)
        {
            return Ok(Some(found));
        }
        self.reader.get_consistent(NAMESPACES, "", namespace).await
    }

    async fn check(&self, a: &Attributes<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        if a.is_any("", "namespaces") {
            return self.check_namespace(a);
        }
        // Deletion must be possible whatever state the namespace is in; access reviews are asked about any namespace.
        if a.operation == Operation::Delete
            || a.namespace.is_empty()
            || a.is_any("authorization.k8s.io", "localsubjectaccessreviews")
        {
            return Ok(());
        }
        let Some(namespace) = self.find(a.namespace).await? else {
            return Err(ApiError::not_found("", "namespaces", a.namespace));
        };
        if a.operation != Operation::Create || text(&namespace, "/status/phase") != "Terminating" {
            return Ok(());
        }
        let detail =
            format!("unable to create new content in namespace {} because it is being terminated", a.namespace);
        let cause = format!("namespace {} is being terminated", a.namespace);
        Err(a.forbidden(object, &detail).with_cause("NamespaceTerminating", "metadata.namespace", cause))
    }

    fn check_namespace(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if a.operation == Operation::Delete {
            if IMMORTAL.contains(&a.name) {
                return Err(a.forbidden(None, "this namespace may not be deleted"));
            }
            self.note_deletion(a.name);
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.operation != Operation::Connect
    }

    /// It only refuses, but before other plugins look for objects in the namespace.
    async fn admit(&self, a: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        self.check(a, Some(object)).await
    }

    async fn validate(&self, a: &Attributes<'_>, _: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        // Writes have been checked by `admit`; deletions have no object to admit.
        if a.operation == Operation::Delete { self.check(a, None).await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{State, admit, attributes};

    fn plugin() -> (Arc<State>, NamespaceLifecycle) {
        let state = Arc::new(State::default());
        state.put("namespaces", json!({"metadata": {"name": "dev"}, "status": {"phase": "Active"}}));
        state.put("namespaces", json!({"metadata": {"name": "old"}, "status": {"phase": "Terminating"}}));
        (state.clone(), NamespaceLifecycle::new(state, apiserver_auth::clock::system()))
    }

    #[tokio::test]
    async fn writes_need_a_namespace_and_creations_a_living_one() {
        let (_, plugin) = plugin();
        let cases = [
            (Operation::Create, "dev", Ok(())),
            (Operation::Create, "absent", Err(404)),
            (Operation::Create, "old", Err(403)),
            (Operation::Update, "old", Ok(())),
            (Operation::Update, "absent", Err(404)),
        ];
        for (operation, namespace, wanted) in cases {
            let mut a = attributes(operation, "", "pods");
            a.namespace = namespace;
            let got = admit(&plugin, &a, json!({"metadata": {"name": "x"}})).await;
            assert_eq!(got.as_ref().map(|_| ()).map_err(|e| e.code()), wanted, "{operation:?} {namespace}");
            if wanted == Err(403) {
                let error = got.expect_err("refused");
                let causes = &error.0.details.as_ref().expect("details").causes;
                assert_eq!(
                    (causes[0].reason.as_str(), causes[0].field.as_str()),
                    ("NamespaceTerminating", "metadata.namespace")
                );
            }
        }
    }

    #[tokio::test]
    async fn three_namespaces_stay() {
        let (_, plugin) = plugin();
        for (name, wanted) in
            [("default", Err(403)), ("kube-system", Err(403)), ("kube-public", Err(403)), ("dev", Ok(()))]
        {
            let mut a = attributes(Operation::Delete, "", "namespaces");
            a.name = name;
            assert_eq!(plugin.validate(&a, None, None).await.map_err(|e| e.code()), wanted, "{name}");
        }
        assert!(plugin.deleted_lately("dev"));
        let mut pods = attributes(Operation::Delete, "", "pods");
        pods.namespace = "absent";
        assert_eq!(plugin.validate(&pods, None, None).await, Ok(()));
    }
}
