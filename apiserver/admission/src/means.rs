//! What is looked up to tell whether a request is the affair of a policy or a webhook, and to evaluate expressions.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::authorization::Authorizer;
use apiserver_storage::reader::{GroupResource, Reader};
use serde_json::Value;

use crate::Attributes;

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");

/// The state of the cluster, and who may do what.
#[derive(Clone)]
pub(crate) struct Means {
    pub reader: Arc<dyn Reader>,
    pub authorizer: Arc<dyn Authorizer>,
}

impl Means {
    /// The namespace of the object; a Namespace has none.
    pub(crate) fn namespace(&self, a: &Attributes<'_>) -> Option<Arc<Value>> {
        let none = a.namespace.is_empty() || a.is("", "namespaces");
        if none { None } else { self.reader.get(NAMESPACES, "", a.namespace) }
    }

    /// As [`Means::namespace`], also where the cache does not know of it yet.
    ///
    /// # Errors
    /// A state that cannot be read.
    pub(crate) async fn fresh_namespace(&self, a: &Attributes<'_>) -> Result<Option<Arc<Value>>, ApiError> {
        match self.namespace(a) {
            None if !a.namespace.is_empty() && !a.is("", "namespaces") => {
                self.reader.get_consistent(NAMESPACES, "", a.namespace).await
            }
            known => Ok(known),
        }
    }
}
