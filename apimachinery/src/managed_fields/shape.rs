//! How values merge, by the schema: as a whole, by field, by entry, or by item.

use serde_json::{Map, Value};

use crate::schema::{Field, FieldType, ListType, MapType, Type};

/// What the schema says of a value.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Object(&'a Type),
    Field(&'a Field),
    /// Nothing: objects merge by entry, all else as a whole.
    Deduced,
}

/// How a value merges.
#[derive(Clone, Copy)]
pub(super) enum Atom<'a> {
    /// As a whole.
    Leaf,
    /// An object, by its fields.
    Struct(&'a Type),
    /// A map, by its entries.
    Map(&'a Field),
    /// An object of which nothing is known, by its entries.
    Free,
    /// A list, by its items' keys.
    Keyed(&'a Field, &'a [String]),
    /// A list of scalars that are there or not.
    Set(&'a Field),
}

impl<'a> Shape<'a> {
    /// How the value merges; a value is needed only where the schema does not say.
    pub(super) fn atom(self, value: Option<&Value>) -> Atom<'a> {
        let field = match self {
            Shape::Object(ty) => return Atom::Struct(ty),
            Shape::Deduced => return deduced(value),
            Shape::Field(field) => field,
        };
        let atomic = |ty: &Type| field.map_type.or(ty.map_type) == Some(MapType::Atomic);
        match &field.ty {
            FieldType::Message(ty) if atomic(ty) => Atom::Leaf,
            FieldType::Message(ty) => Atom::Struct(ty),
            FieldType::Map(_) if field.map_type == Some(MapType::Atomic) => Atom::Leaf,
            FieldType::Map(element) => Atom::Map(element),
            FieldType::List(item) => match field.list_type {
                Some(ListType::Map) => Atom::Keyed(item, &field.list_map_keys),
                Some(ListType::Set) => Atom::Set(item),
                _ => Atom::Leaf,
            },
            FieldType::Raw | FieldType::Any | FieldType::Object if field.map_type != Some(MapType::Atomic) => {
                deduced(value)
            }
            _ => Atom::Leaf,
        }
    }
}

fn deduced<'a>(value: Option<&Value>) -> Atom<'a> {
    match value {
        // Null takes the form of whatever it meets.
        None | Some(Value::Object(_) | Value::Null) => Atom::Free,
        Some(_) => Atom::Leaf,
    }
}

impl<'a> Atom<'a> {
    /// The shape of an entry, and whether the schema names it.
    pub(super) fn entry(self, key: &str) -> (Shape<'a>, bool) {
        match self {
            Atom::Struct(ty) => ty.field(key).map_or((Shape::Deduced, false), |field| (Shape::Field(field), true)),
            Atom::Map(element) => (Shape::Field(element), false),
            _ => (Shape::Deduced, false),
        }
    }

    /// The shape of an item.
    pub(super) fn item(self) -> Shape<'a> {
        match self {
            Atom::Keyed(item, _) | Atom::Set(item) => Shape::Field(item),
            _ => Shape::Deduced,
        }
    }

    /// The shape below a path element.
    pub(super) fn below(self, element: &str) -> (Shape<'a>, bool) {
        match element.strip_prefix("f:") {
            Some(name) => self.entry(name),
            None => (self.item(), false),
        }
    }

    /// The path element of an item: by its keys, with their defaults, or by its value.
    ///
    /// # Errors
    /// Items that are not objects or lack a key, with what is wrong.
    pub(super) fn element(self, item: &Value) -> Result<String, String> {
        match self {
            Atom::Keyed(described, keys) => {
                let Value::Object(map) = item else {
                    return Err("associative list with keys may not have non-map elements".into());
                };
                let ty = described.ty.message();
                let mut element = Map::new();
                for key in keys {
                    let value = map
                        .get(key)
                        .filter(|value| !value.is_null())
                        .or_else(|| ty?.field(key)?.default.as_ref())
                        .ok_or_else(|| format!("associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"))?;
                    element.insert(key.clone(), value.clone());
                }
                Ok(format!("k:{}", Value::Object(element)))
            }
            _ => match item {
                Value::Object(_) | Value::Array(_) => Err("only scalars are supported in associative lists".into()),
                scalar => Ok(format!("v:{scalar}")),
            },
        }
    }
}

pub(super) fn as_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

pub(super) fn as_list(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice).filter(|items| !items.is_empty())
}
