//! What a plugin is.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::Observer;
use async_trait::async_trait;
use serde_json::Value;

use crate::Attributes;
use crate::passes::Passes;

/// Changes or refuses requests. One file below [`crate::plugins`] each.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// The name in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether the other methods are to be called for the request.
    fn handles(&self, a: &Attributes<'_>) -> bool;

    /// Changes the object before it is validated. It may be called again for the same request, so it must be idempotent.
    async fn admit(&self, _a: &Attributes<'_>, _object: &mut Value, _old: Option<&Value>) -> Result<(), ApiError> {
        Ok(())
    }

    /// As [`Plugin::admit`], for plugins that remember what they did in the first of two passes.
    async fn admit_in(
        &self,
        a: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
        _passes: &mut Passes,
    ) -> Result<(), ApiError> {
        self.admit(a, object, old).await
    }

    /// Refuses what must not be, once the object is final; `object` is none for deletions.
    async fn validate(
        &self,
        _a: &Attributes<'_>,
        _object: Option<&Value>,
        _old: Option<&Value>,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// What the client is told where the request passes.
    fn warnings(&self, _a: &Attributes<'_>, _object: Option<&Value>, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The plugin as a follower of changes, if it is one.
    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        None
    }
}
