//! Types, fields, and the order in which protobuf writes them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gvk {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl Gvk {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// How the items of a list are merged (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects told apart by the fields in `list_map_keys`.
    Map,
}

/// How the entries of a map or the fields of an object are merged (`x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// The three unions of `JSONSchemaProps`, which are one JSON value or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnionKind {
    SchemaOrBool,
    SchemaOrArray,
    SchemaOrStringArray,
}

/// A link to another type. Links of the table are set after all its types are read, so that types may refer to each
/// other in circles; the table lives as long as the program. Custom types are trees, and are freed with their root.
#[derive(Clone)]
pub struct TypeRef {
    name: Arc<str>,
    link: OnceLock<Arc<Type>>,
}

impl TypeRef {
    pub(super) fn named(name: &str) -> Self {
        TypeRef { name: name.into(), link: OnceLock::new() }
    }

    /// A link to a type that exists already.
    pub fn to(ty: Arc<Type>) -> Self {
        TypeRef { name: ty.name.as_str().into(), link: OnceLock::from(ty) }
    }

    pub(super) fn target(&self) -> &str {
        &self.name
    }

    pub(super) fn set(&self, ty: &Arc<Type>) {
        self.link.get_or_init(|| ty.clone());
    }

    /// The type itself, to keep.
    pub fn arc(&self) -> &Arc<Type> {
        self.link.get().expect("links are set before a schema is handed out")
    }
}

impl Deref for TypeRef {
    type Target = Type;

    fn deref(&self) -> &Type {
        self.arc()
    }
}

impl fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeRef({})", self.name)
    }
}

/// What a field holds.
#[derive(Clone, Debug)]
pub enum FieldType {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// An embedded object (`runtime.RawExtension`).
    Raw,
    /// Any JSON (`apiextensions.JSON`).
    Json,
    /// A set of managed fields (`meta.v1.FieldsV1`).
    FieldsV1,
    /// A schema, or something simpler in its place.
    Union(UnionKind, TypeRef),
    /// An object of which nothing is known.
    Object,
    /// Anything.
    Any,
    Message(TypeRef),
    /// A list; the field, which has no name, describes each item.
    List(Box<Field>),
    /// A map from strings; the field, which has no name, describes each value.
    Map(Box<Field>),
}

impl FieldType {
    /// The message type, for a single message.
    pub fn message(&self) -> Option<&Type> {
        match self {
            FieldType::Message(link) => Some(link),
            _ => None,
        }
    }

    /// What describes the items of a list or the values of a map.
    pub fn element(&self) -> Option<&Field> {
        match self {
            FieldType::List(element) | FieldType::Map(element) => Some(element),
            _ => None,
        }
    }

    /// The message type at the end of lists and maps.
    pub fn innermost(&self) -> Option<&TypeRef> {
        match self {
            FieldType::Message(link) | FieldType::Union(_, link) => Some(link),
            FieldType::List(element) | FieldType::Map(element) => element.ty.innermost(),
            _ => None,
        }
    }

    /// Whether the value is a number, a string or a boolean in JSON.
    pub fn is_scalar(&self) -> bool {
        use FieldType as T;
        matches!(
            self,
            T::Bool
                | T::Int32
                | T::Int64
                | T::Double
                | T::String
                | T::Bytes
                | T::Time
                | T::MicroTime
                | T::Duration
                | T::Quantity
                | T::IntOrString
        )
    }

    /// The type's name as Go prints it in messages.
    pub fn go_name(&self) -> String {
        use FieldType as T;
        match self {
            T::Bool => "bool".into(),
            T::Int32 => "int32".into(),
            T::Int64 => "int64".into(),
            T::Double => "float64".into(),
            T::String => "string".into(),
            T::Bytes => "[]uint8".into(),
            T::Time => "v1.Time".into(),
            T::MicroTime => "v1.MicroTime".into(),
            T::Duration => "v1.Duration".into(),
            T::Quantity => "resource.Quantity".into(),
            T::IntOrString => "intstr.IntOrString".into(),
            T::Raw => "runtime.RawExtension".into(),
            T::Json => "v1.JSON".into(),
            T::FieldsV1 => "v1.FieldsV1".into(),
            T::Union(UnionKind::SchemaOrBool, _) => "v1.JSONSchemaPropsOrBool".into(),
            T::Union(UnionKind::SchemaOrArray, _) => "v1.JSONSchemaPropsOrArray".into(),
            T::Union(UnionKind::SchemaOrStringArray, _) => "v1.JSONSchemaPropsOrStringArray".into(),
            T::Object => "map[string]interface {}".into(),
            T::Any => "interface {}".into(),
            T::Message(link) => link.go_name(),
            T::List(item) => format!("[]{}", item.ty.go_name()),
            T::Map(value) => format!("map[string]{}", value.ty.go_name()),
        }
    }
}

/// A field of a type, or, without a name, the description of a list's items or a map's values.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name in JSON.
    pub name: String,
    pub ty: FieldType,
    /// The path of protobuf tags; more than one where the message is nested in protobuf but not in JSON; none where the
    /// field does not exist in protobuf.
    pub tag: Vec<u32>,
    pub required: bool,
    pub list_type: Option<ListType>,
    pub list_map_keys: Vec<String>,
    /// The strategies of strategic merge: `merge`, `replace`, `retainKeys`, joined with commas.
    pub patch_strategy: Option<String>,
    pub patch_merge_key: Option<String>,
    pub map_type: Option<MapType>,
    pub default: Option<Value>,
    pub enum_values: Vec<String>,
    /// Whether null is a value of its own (custom resources).
    pub nullable: bool,
    /// Whether a value of another type is kept as it is, for the validation to find (custom resources).
    pub lax: bool,
    /// Whether being absent differs from having the zero value, as for a pointer in Go. Where it does not, a zero
    /// is not kept.
    pub presence: bool,
    /// Whether an empty value is left out, as for `omitempty` in Go.
    pub omit_empty: bool,
    /// What is written in JSON although nothing was set, as Go does for fields without `omitempty` that are not pointers.
    pub zero: Option<Value>,
}

impl Field {
    /// A field of which only name and type are known.
    pub fn new(name: &str, ty: FieldType) -> Self {
        Field {
            name: name.to_owned(),
            ty,
            tag: Vec::new(),
            required: false,
            list_type: None,
            list_map_keys: Vec::new(),
            patch_strategy: None,
            patch_merge_key: None,
            map_type: None,
            default: None,
            enum_values: Vec::new(),
            nullable: false,
            lax: false,
            presence: true,
            omit_empty: false,
            zero: None,
        }
    }

    /// Whether strategic merge merges the field's items or entries instead of replacing them.
    pub fn has_patch_strategy(&self, strategy: &str) -> bool {
        self.patch_strategy.as_deref().is_some_and(|all| all.split(',').any(|one| one == strategy))
    }
}

/// The type of an object.
#[derive(Debug)]
pub struct Type {
    /// `core.v1.Pod`.
    pub name: String,
    pub fields: Vec<Field>,
    /// The full name of the protobuf message.
    pub proto: Option<String>,
    /// The kinds that have this type; empty for what is never an object of its own.
    pub gvk: Vec<Gvk>,
    /// How objects of the type are merged, where the field that holds one does not say.
    pub map_type: Option<MapType>,
    /// Whether fields that are not described are kept (custom resources).
    pub preserve_unknown: bool,
    /// Whether the object has `apiVersion`, `kind` and `metadata` of its own (custom resources).
    pub embedded_resource: bool,
    /// The schema that OpenAPI publishes, where it is more than the fields say (custom resources).
    pub published: Option<Value>,
    by_name: Vec<u16>,
    layout: Layout,
}

impl Type {
    /// A type of these fields.
    pub fn new(name: &str, fields: Vec<Field>) -> Self {
        let mut by_name: Vec<u16> = (0..fields.len()).map(|i| u16::try_from(i).expect("few fields")).collect();
        by_name.sort_by(|a, b| fields[usize::from(*a)].name.cmp(&fields[usize::from(*b)].name));
        let layout = Layout::of(&fields);
        Type {
            name: name.to_owned(),
            fields,
            proto: None,
            gvk: Vec::new(),
            map_type: None,
            preserve_unknown: false,
            embedded_resource: false,
            published: None,
            by_name,
            layout,
        }
    }

    /// The field of that JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.field_index(name).map(|index| &self.fields[index])
    }

    /// The position in `fields` of the field of that JSON name.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        let found = self.by_name.binary_search_by(|index| self.fields[usize::from(*index)].name.as_str().cmp(name));
        found.ok().map(|at| usize::from(self.by_name[at]))
    }

    /// The last part of the name: `Pod`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// The name as Go prints it in messages: `v1.Pod`.
    pub fn go_name(&self) -> String {
        let mut parts = self.name.rsplitn(3, '.');
        match (parts.next(), parts.next()) {
            (Some(kind), Some(version)) => format!("{version}.{kind}"),
            _ => self.name.clone(),
        }
    }

    /// Whether the type belongs to the metadata every group shares (`DeleteOptions`, `Status`, …).
    pub fn is_meta(&self) -> bool {
        self.name.starts_with("meta.")
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// The fields of a message in the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub nodes: Vec<Node>,
}

/// A tag of a message.
#[derive(Debug)]
pub(crate) struct Node {
    pub tag: u32,
    pub what: NodeKind,
}

/// What stands at a tag.
#[derive(Debug)]
pub(crate) enum NodeKind {
    /// The field at that position.
    Field(u16),
    /// A message that JSON does not show: its fields belong to the outer object.
    Inlined(Layout),
}

impl Layout {
    fn of(fields: &[Field]) -> Layout {
        let paths = fields.iter().enumerate().filter(|(_, field)| !field.tag.is_empty());
        let paths: Vec<(&[u32], u16)> =
            paths.map(|(i, field)| (field.tag.as_slice(), u16::try_from(i).expect("few fields"))).collect();
        Layout::of_paths(&paths)
    }

    fn of_paths(paths: &[(&[u32], u16)]) -> Layout {
        let mut tags: Vec<u32> = paths.iter().map(|(path, _)| path[0]).collect();
        tags.sort_unstable();
        tags.dedup();
        let node = |tag: u32| {
            let below: Vec<(&[u32], u16)> = paths.iter().filter(|(path, _)| path[0] == tag).copied().collect();
            let what = match below[..] {
                [(path, index)] if path.len() == 1 => NodeKind::Field(index),
                _ => {
                    let rest: Vec<(&[u32], u16)> = below.iter().map(|(path, index)| (&path[1..], *index)).collect();
                    NodeKind::Inlined(Layout::of_paths(&rest))
                }
            };
            Node { tag, what }
        };
        Layout { nodes: tags.into_iter().map(node).collect() }
    }

    /// What stands at that tag.
    pub fn at(&self, tag: u32) -> Option<&NodeKind> {
        self.nodes.binary_search_by_key(&tag, |node| node.tag).ok().map(|at| &self.nodes[at].what)
    }
}
