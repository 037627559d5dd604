//! How types are called in OpenAPI.

use crate::schema::Type;

/// The name of a type's model: `io.k8s.api.core.v1.Pod`; of a custom one, its group backwards: `com.example.v1.Thing`.
pub fn model_name(ty: &Type) -> String {
    if let Some(proto) = &ty.proto {
        let name = proto.strip_prefix("k8s.io.").map_or_else(|| proto.clone(), |rest| format!("io.k8s.{rest}"));
        return name
            .replace("apiextensions_apiserver", "apiextensions-apiserver")
            .replace("kube_aggregator", "kube-aggregator");
    }
    let Some(gvk) = ty.gvk.first() else { return format!("io.k8s.{}", ty.name) };
    if gvk.group.is_empty() {
        return format!("io.k8s.api.core.{}.{}", gvk.version, gvk.kind);
    }
    let group: Vec<&str> = gvk.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), gvk.version, gvk.kind)
}

/// `apps` and `v1` as operations name them: `AppsV1`, `CoreV1`, `RbacAuthorizationV1`.
pub(super) fn operation_group(group: &str, version: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let group = if group.is_empty() { "core" } else { group };
    let parts = group.split(['.', '-']).chain([version]);
    parts.map(capitalized).collect()
}

pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn models_and_operations_have_kubernetes_names() {
        let schema = Schema::builtin();
        let name = |ty: &str| model_name(schema.type_named(ty).expect(ty));
        assert_eq!(name("core.v1.Pod"), "io.k8s.api.core.v1.Pod");
        assert_eq!(name("meta.v1.ObjectMeta"), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        assert_eq!(
            name("apiextensions.v1.JSONSchemaProps"),
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
        );
        assert_eq!(operation_group("rbac.authorization.k8s.io", "v1"), "RbacAuthorizationV1");
        assert_eq!(operation_group("", "v1"), "CoreV1");
    }
}
