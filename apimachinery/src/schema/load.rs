//! Reading the table.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::types::{Field, FieldType, Gvk, ListType, MapType, Type, TypeRef, UnionKind};
use super::{Resource, Schema, Subresource};

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the table is not JSON of the expected shape")]
    Json(#[from] serde_json::Error),
    #[error("{owner}: the type {name} is not in the table")]
    UnknownType { owner: String, name: String },
}

#[derive(Deserialize)]
struct TableRow {
    resources: Vec<ResourceRow>,
    types: HashMap<String, TypeRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRow {
    group: String,
    version: String,
    resource: String,
    kind: String,
    #[serde(default)]
    singular: String,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    namespaced: bool,
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<SubresourceRow>,
}

#[derive(Deserialize)]
struct SubresourceRow {
    name: String,
    group: Option<String>,
    version: Option<String>,
    kind: String,
    verbs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeRow {
    fields: Vec<FieldRow>,
    /// How objects of the type are merged, where the field that holds one does not say.
    map_type: Option<String>,
    proto: Option<String>,
    #[serde(default)]
    gvk: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldRow {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    tag: Option<TagRow>,
    #[serde(default)]
    required: bool,
    list_type: Option<String>,
    #[serde(default)]
    list_map_keys: Vec<String>,
    patch_strategy: Option<String>,
    patch_merge_key: Option<String>,
    map_type: Option<String>,
    default: Option<Value>,
    #[serde(default, rename = "enum")]
    enum_values: Vec<String>,
    /// Whether Go holds the field by a pointer, so that being absent differs from being zero; only for what is not a
    /// message, a list or a map.
    #[serde(default)]
    pointer: bool,
    /// Whether Go leaves the field out when it is empty, where that does not follow from `required` and `default`.
    omitempty: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TagRow {
    One(u32),
    Path(Vec<u32>),
}

pub(super) fn parse(table: &str) -> Result<Schema, LoadError> {
    let table: TableRow = serde_json::from_str(table)?;
    let types: HashMap<String, Arc<Type>> =
        table.types.into_iter().map(|(name, row)| (name.clone(), Arc::new(read_type(&name, row)))).collect();
    link(&types)?;
    let mut schema = Schema { types, ..Schema::default() };
    index_kinds(&mut schema);
    for row in table.resources {
        add_resource(&mut schema, row)?;
    }
    Ok(schema)
}

/// Kinds that are sent with requests and never stored, so that the table, made from the API's paths, does not name
/// their group.
const UNLISTED_KINDS: [(&str, &str); 16] = [
    ("meta.v1.CreateOptions", "v1"),
    ("meta.v1.GetOptions", "v1"),
    ("meta.v1.ListOptions", "v1"),
    ("meta.v1.PatchOptions", "v1"),
    ("meta.v1.UpdateOptions", "v1"),
    ("meta.v1.TableOptions", "meta.k8s.io/v1"),
    ("core.v1.NodeProxyOptions", "v1"),
    ("core.v1.PodAttachOptions", "v1"),
    ("core.v1.PodExecOptions", "v1"),
    ("core.v1.PodLogOptions", "v1"),
    ("core.v1.PodPortForwardOptions", "v1"),
    ("core.v1.PodProxyOptions", "v1"),
    ("core.v1.RangeAllocation", "v1"),
    ("core.v1.SerializedReference", "v1"),
    ("core.v1.ServiceProxyOptions", "v1"),
    ("admission.v1.AdmissionReview", "admission.k8s.io/v1"),
];

fn read_type(name: &str, row: TypeRow) -> Type {
    let mut fields: Vec<Field> = row.fields.into_iter().map(read_field).collect();
    let mut gvk: Vec<Gvk> = row.gvk.iter().filter_map(|text| read_gvk(text)).collect();
    if let Some((_, api_version)) = UNLISTED_KINDS.iter().find(|(unlisted, _)| *unlisted == name) {
        if gvk.is_empty() {
            let kind = name.rsplit('.').next().unwrap_or(name);
            let (group, version) = crate::meta::group_version(api_version);
            gvk.push(Gvk { group: group.into(), version: version.into(), kind: kind.into() });
        }
        for key in ["apiVersion", "kind"] {
            if !fields.iter().any(|field| field.name == key) {
                fields.push(Field::new(key, FieldType::String));
            }
        }
    }
    let mut ty = Type::new(name, fields);
    ty.proto = row.proto;
    ty.map_type = row.map_type.as_deref().map(read_map_type);
    ty.gvk = gvk;
    ty
}

/// `apps/v1/Deployment`; the core group is empty: `/v1/Pod`.
fn read_gvk(text: &str) -> Option<Gvk> {
    let mut parts = text.splitn(3, '/');
    let (group, version, kind) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Gvk { group: group.into(), version: version.into(), kind: kind.into() })
}

fn read_field(row: FieldRow) -> Field {
    let mut field = Field::new(&row.name, read_field_type(&row.ty));
    field.tag = match row.tag {
        None => Vec::new(),
        Some(TagRow::One(tag)) => vec![tag],
        Some(TagRow::Path(path)) => path,
    };
    field.required = row.required;
    field.list_type = row.list_type.as_deref().and_then(read_list_type);
    field.list_map_keys = row.list_map_keys;
    field.patch_strategy = row.patch_strategy;
    field.patch_merge_key = row.patch_merge_key;
    field.map_type = row.map_type.as_deref().map(read_map_type);
    let zero_by_default = row.default.as_ref().is_some_and(is_zero);
    field.presence = match field.ty {
        FieldType::Message(_) => !zero_by_default,
        FieldType::Union(..) => true,
        _ => row.pointer,
    };
    field.omit_empty = row.omitempty.unwrap_or(!row.required && !zero_by_default);
    field.zero = match row.default.as_ref().filter(|default| is_zero(default)) {
        Some(zero) if row.pointer || !field.omit_empty => Some(zero.clone()),
        Some(_) => None,
        None => zero_of_go(&field),
    };
    field.default = row.default;
    field.enum_values = row.enum_values;
    field
}

/// What Go writes for a field that is no pointer, is not left out when empty, and of which the table has no default.
fn zero_of_go(field: &Field) -> Option<Value> {
    if field.presence || field.tag.is_empty() {
        return None;
    }
    match field.ty {
        // A struct is never empty to Go, and a quantity is one.
        FieldType::Quantity => Some("0".into()),
        _ if field.omit_empty || field.required => None,
        FieldType::String => Some("".into()),
        FieldType::Bool => Some(false.into()),
        FieldType::Int32 | FieldType::Int64 => Some(0.into()),
        _ => None,
    }
}

fn read_map_type(text: &str) -> MapType {
    match text {
        "atomic" => MapType::Atomic,
        _ => MapType::Granular,
    }
}

fn read_list_type(text: &str) -> Option<ListType> {
    match text {
        "atomic" => Some(ListType::Atomic),
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map),
        _ => None,
    }
}

/// The table gives Go's zero value as the default of whatever is neither a pointer nor omitted when empty.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

fn read_field_type(text: &str) -> FieldType {
    const PROPS: &str = "apiextensions.v1.JSONSchemaProps";
    if let Some(item) = text.strip_prefix("[]") {
        return FieldType::List(Box::new(element(item)));
    }
    if let Some(value) = text.strip_prefix("map:") {
        return FieldType::Map(Box::new(element(value)));
    }
    match text {
        "bool" => FieldType::Bool,
        "int32" => FieldType::Int32,
        "int64" => FieldType::Int64,
        "double" => FieldType::Double,
        "string" => FieldType::String,
        "bytes" => FieldType::Bytes,
        "time" => FieldType::Time,
        "microtime" => FieldType::MicroTime,
        "duration" => FieldType::Duration,
        "quantity" => FieldType::Quantity,
        "int-or-string" => FieldType::IntOrString,
        "raw" => FieldType::Raw,
        "JSON" => FieldType::Json,
        "fields-v1" => FieldType::FieldsV1,
        "object" => FieldType::Object,
        "any" => FieldType::Any,
        "JSONSchemaPropsOrBool" => FieldType::Union(UnionKind::SchemaOrBool, TypeRef::named(PROPS)),
        "JSONSchemaPropsOrArray" => FieldType::Union(UnionKind::SchemaOrArray, TypeRef::named(PROPS)),
        "JSONSchemaPropsOrStringArray" => FieldType::Union(UnionKind::SchemaOrStringArray, TypeRef::named(PROPS)),
        message => FieldType::Message(TypeRef::named(message)),
    }
}

fn element(text: &str) -> Field {
    Field::new("", read_field_type(text))
}

fn link(types: &HashMap<String, Arc<Type>>) -> Result<(), LoadError> {
    for ty in types.values() {
        for field in &ty.fields {
            let Some(link) = field.ty.innermost() else { continue };
            let target = types.get(link.target()).ok_or_else(|| LoadError::UnknownType {
                owner: format!("{}.{}", ty.name, field.name),
                name: link.target().to_owned(),
            })?;
            link.set(target);
        }
    }
    Ok(())
}

/// The metadata's own group, in which clients send options and ask for metadata only.
const META_API_VERSION: &str = "meta.k8s.io/v1";

fn index_kinds(schema: &mut Schema) {
    let mut groups: Vec<String> = Vec::new();
    for ty in schema.types.values() {
        for gvk in &ty.gvk {
            groups.push(gvk.api_version());
            schema.kinds.entry(gvk.api_version()).or_default().insert(gvk.kind.clone(), ty.clone());
        }
    }
    groups.push(META_API_VERSION.to_owned());
    groups.push("v1".to_owned());
    groups.sort();
    groups.dedup();
    // The shared kinds are known in every group.
    let shared = ["DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "ListOptions", "GetOptions"]
        .into_iter()
        .chain(["WatchEvent", "Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"])
        .chain(["PartialObjectMetadata", "PartialObjectMetadataList", "TableOptions"]);
    for kind in shared {
        let Some(ty) = schema.types.get(&format!("meta.v1.{kind}")) else { continue };
        let everywhere = matches!(kind, "DeleteOptions" | "WatchEvent" | "Status") || kind.ends_with("Options");
        let groups: Vec<&str> =
            if everywhere { groups.iter().map(String::as_str).collect() } else { vec![META_API_VERSION, "v1"] };
        for api_version in groups {
            schema
                .kinds
                .entry(api_version.to_owned())
                .or_default()
                .entry(kind.to_owned())
                .or_insert_with(|| ty.clone());
        }
    }
    schema.kinds.entry("v1".into()).or_default().entry("List".into()).or_insert_with(any_list);
}

/// `v1 List`, whose items are objects of any kind.
fn any_list() -> Arc<Type> {
    let metadata = Field::new("metadata", FieldType::Object);
    let items = Field::new("items", FieldType::List(Box::new(Field::new("", FieldType::Raw))));
    let texts = ["apiVersion", "kind"].map(|name| Field::new(name, FieldType::String));
    let mut ty = Type::new("core.v1.List", [vec![metadata, items], texts.into()].concat());
    ty.gvk = vec![Gvk { group: String::new(), version: "v1".into(), kind: "List".into() }];
    Arc::new(ty)
}

fn add_resource(schema: &mut Schema, row: ResourceRow) -> Result<(), LoadError> {
    let api_version = if row.group.is_empty() { row.version.clone() } else { format!("{}/{}", row.group, row.version) };
    let ty = schema.type_for_kind(&api_version, &row.kind).cloned().ok_or_else(|| LoadError::UnknownType {
        owner: row.resource.clone(),
        name: format!("{api_version} {}", row.kind),
    })?;
    let subresource = |sub: SubresourceRow| Subresource {
        name: sub.name,
        group: sub.group.unwrap_or_else(|| row.group.clone()),
        version: sub.version.unwrap_or_else(|| row.version.clone()),
        kind: sub.kind,
        verbs: sub.verbs,
    };
    let subresources = row.subresources.into_iter().map(subresource).collect();
    let resource = Arc::new(Resource {
        group: row.group,
        version: row.version,
        resource: row.resource,
        kind: row.kind,
        singular: row.singular,
        short_names: row.short_names,
        categories: row.categories,
        namespaced: row.namespaced,
        verbs: row.verbs,
        subresources,
        ty,
    });
    let key = |name: &str| (resource.group.clone(), resource.version.clone(), name.to_owned());
    schema.by_resource.insert(key(&resource.resource), resource.clone());
    schema.by_kind.entry(key(&resource.kind)).or_insert_with(|| resource.clone());
    schema.resources.push(resource);
    Ok(())
}
