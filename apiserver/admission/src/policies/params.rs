//! The parameters of policies: objects of any kind, built in or custom, which a binding names or selects.

use std::sync::Arc;

use apimachinery::schema::Schema;
use apiserver_storage::reader::{GroupResource, Reader};
use serde_json::Value;

use super::Binding;
use super::definition::ParamKind;
use crate::object::text;

const DEFINITIONS: GroupResource<'static> = GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions");

/// Why there are no parameters where there must be.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Missing {
    #[error("paramKind kind `{0}` not known")]
    Kind(String),
    #[error("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")]
    NoNamespace,
    #[error("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")]
    Namespace,
    #[error("no params found for policy binding with `Deny` parameterNotFoundAction")]
    None,
    #[error("{0}")]
    Broken(String),
}

/// A resource that a kind is served as.
struct Resource {
    group: String,
    plural: String,
    namespaced: bool,
}

fn resource(kind: &ParamKind, reader: &dyn Reader) -> Option<Resource> {
    let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    if let Some(found) = Schema::builtin().resource_for_kind(group, version, &kind.kind) {
        let (group, plural) = (found.group.clone(), found.resource.clone());
        return Some(Resource { group, plural, namespaced: found.namespaced });
    }
    let defines = |definition: &Value| {
        text(definition, "/spec/group") == group && text(definition, "/spec/names/kind") == kind.kind
    };
    let definition = reader.list(DEFINITIONS, None).into_iter().find(|definition| defines(definition))?;
    Some(Resource {
        group: group.to_owned(),
        plural: text(&definition, "/spec/names/plural").to_owned(),
        namespaced: definition["spec"]["scope"] == "Namespaced",
    })
}

/// The objects with which a policy is asked, one by one; once without any where it has no parameters.
pub(super) fn of(
    kind: Option<&ParamKind>,
    binding: &Binding,
    namespace: &str,
    reader: &dyn Reader,
) -> Result<Vec<Option<Arc<Value>>>, Missing> {
    let (Some(kind), Some(reference)) = (kind, &binding.params) else { return Ok(vec![None]) };
    let unknown = || Missing::Kind(format!("{}, Kind={}", kind.api_version, kind.kind));
    let resource = resource(kind, reader).ok_or_else(unknown)?;
    let namespace = match (resource.namespaced, reference.namespace.as_str()) {
        (true, "") if namespace.is_empty() => return Err(Missing::NoNamespace),
        (true, "") => namespace,
        (true, named) => named,
        (false, "") => "",
        (false, _) => return Err(Missing::Namespace),
    };
    let from = GroupResource::new(&resource.group, &resource.plural);
    let found: Vec<Arc<Value>> = if reference.name.is_empty() {
        let selector = reference.selector.as_ref().map_err(|error| Missing::Broken(error.to_string()))?;
        let all = reader.list(from, resource.namespaced.then_some(namespace));
        all.into_iter().filter(|object| selector.matches_object(object)).collect()
    } else {
        reader.get(from, namespace, &reference.name).into_iter().collect()
    };
    if found.is_empty() && reference.denies_without {
        return Err(Missing::None);
    }
    Ok(found.into_iter().map(Some).collect())
}
