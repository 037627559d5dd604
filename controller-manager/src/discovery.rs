//! Which resources the API server has, asked anew by those who must see all of them.

use kube::core::discovery::{ApiCapabilities, Scope, verbs};
use kube::discovery::ApiResource;
use kube::{Client, Discovery};

/// One resource in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group, version, kind and plural.
    pub api: ApiResource,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether a whole collection can be deleted at once.
    pub deletes_collections: bool,
}

impl Resource {
    /// `deployments.apps`, or `pods` for the core group.
    pub fn name(&self) -> String {
        match self.api.group.as_str() {
            "" => self.api.plural.clone(),
            group => format!("{}.{group}", self.api.plural),
        }
    }
}

/// All resources whose objects can be listed, watched and deleted, each once.
pub async fn deletable(client: &Client) -> Result<Vec<Resource>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let all = discovery.groups().flat_map(|group| group.resources_by_stability());
    Ok(all.filter(|(api, can)| is_deletable(api, can)).map(|(api, can)| resource(api, &can)).collect())
}

/// Events are served in two groups and stored once: the core group's stand for both.
fn is_deletable(api: &ApiResource, can: &ApiCapabilities) -> bool {
    [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| can.supports_operation(verb))
        && api.group != "events.k8s.io"
}

fn resource(api: ApiResource, can: &ApiCapabilities) -> Resource {
    Resource {
        api,
        namespaced: can.scope == Scope::Namespaced,
        deletes_collections: can.supports_operation(verbs::DELETE_COLLECTION),
    }
}
