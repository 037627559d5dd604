//! The plugins that are on, in Kubernetes' order.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::Observer;
use serde_json::Value;

use crate::passes::Passes;
use crate::{Attributes, Plugin};

/// All mutating first, then, on the final object, all validating.
#[derive(Clone, Default)]
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Chain {
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Chain { plugins }
    }

    /// The names of the plugins, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|plugin| plugin.name())
    }

    /// Those that follow changes; the cache must be told of them before it is filled.
    pub fn observers(&self) -> impl Iterator<Item = Arc<dyn Observer>> {
        self.plugins.iter().filter_map(|plugin| Arc::clone(plugin).observer())
    }

    fn handling<'a>(&'a self, a: &'a Attributes<'_>) -> impl Iterator<Item = &'a Arc<dyn Plugin>> {
        self.plugins.iter().filter(|plugin| plugin.handles(a))
    }

    /// Lets the plugins change the object. Where one wants it, all of them are asked once more.
    ///
    /// # Errors
    /// The first plugin's that refuses.
    pub async fn admit(&self, a: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        let mut passes = Passes::default();
        loop {
            for plugin in self.handling(a) {
                plugin.admit_in(a, object, old, &mut passes).await?;
            }
            if !passes.goes_on() {
                return Ok(());
            }
        }
    }

    /// Asks the plugins about the final object; warnings for the client are returned.
    ///
    /// # Errors
    /// The first plugin's that refuses.
    pub async fn validate(
        &self,
        a: &Attributes<'_>,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        for plugin in self.handling(a) {
            plugin.validate(a, object, old).await?;
        }
        Ok(self.handling(a).flat_map(|plugin| plugin.warnings(a, object, old)).collect())
    }
}
