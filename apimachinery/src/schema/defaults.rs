//! Declarative defaults, and the zero values that Kubernetes writes although nothing was set.

use serde_json::{Map, Value};

use super::load::is_zero;
use super::types::{Field, FieldType, Type};

/// Sets every field that is absent and has a default other than its zero value, in what is there already:
/// `protocol: TCP` in each port, but no `strategy` where there is none.
pub fn apply_defaults(ty: &Type, value: &mut Value) {
    let Value::Object(map) = value else { return };
    for field in &ty.fields {
        match map.get_mut(&field.name) {
            Some(Value::Null) if !field.nullable => {
                map.remove(&field.name);
            }
            Some(present) => {
                default_below(field, present);
                continue;
            }
            None => {}
        }
        if let Some(default) = field.default.as_ref().filter(|value| !is_zero(value) || ty.proto.is_none()) {
            let mut value = default.clone();
            default_below(field, &mut value);
            map.insert(field.name.clone(), value);
        }
    }
}

fn default_below(field: &Field, value: &mut Value) {
    match (&field.ty, value) {
        (FieldType::Message(ty), value @ Value::Object(_)) => apply_defaults(ty, value),
        (FieldType::List(item), Value::Array(items)) if has_structure(&item.ty) => {
            items.iter_mut().for_each(|value| default_below(item, value));
        }
        (FieldType::Map(element), Value::Object(map)) => {
            if element.lax && !element.nullable {
                replace_nulls(element, map);
            }
            if has_structure(&element.ty) {
                map.values_mut().for_each(|value| default_below(element, value));
            }
        }
        _ => {}
    }
}

/// Entries that may not be null become the default, or are dropped.
fn replace_nulls(element: &Field, map: &mut Map<String, Value>) {
    match &element.default {
        Some(default) => map.values_mut().filter(|value| value.is_null()).for_each(|value| *value = default.clone()),
        None => map.retain(|_, value| !value.is_null()),
    }
}

fn has_structure(ty: &FieldType) -> bool {
    matches!(ty, FieldType::Message(_) | FieldType::List(_) | FieldType::Map(_))
}

/// Writes the zero values that Kubernetes always writes (`resources: {}`, `status: {}`, `name: ""`), at every depth.
pub fn fill_zeros(ty: &Type, value: &mut Value) {
    let Value::Object(map) = value else { return };
    fill_zeros_in(ty, map);
    for field in &ty.fields {
        let Some(value) = map.get_mut(&field.name) else { continue };
        fill_below(field, value);
    }
}

fn fill_below(field: &Field, value: &mut Value) {
    match (&field.ty, value) {
        (FieldType::Message(ty), value @ Value::Object(_)) => fill_zeros(ty, value),
        (FieldType::List(item), Value::Array(items)) if has_structure(&item.ty) => {
            items.iter_mut().for_each(|value| fill_below(item, value));
        }
        (FieldType::Map(element), Value::Object(map)) if has_structure(&element.ty) => {
            map.values_mut().for_each(|value| fill_below(element, value));
        }
        _ => {}
    }
}

/// The zero values of one object's own fields.
pub(crate) fn fill_zeros_in(ty: &Type, map: &mut Map<String, Value>) {
    for field in &ty.fields {
        let Some(zero) = field.zero.as_ref().filter(|_| !map.contains_key(&field.name)) else { continue };
        let mut zero = zero.clone();
        if let (FieldType::Message(inner), Value::Object(map)) = (&field.ty, &mut zero) {
            fill_zeros_in(inner, map);
        }
        map.insert(field.name.clone(), zero);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Schema;
    use super::*;

    #[test]
    fn only_defaults_that_say_something_are_set() {
        let ty = Schema::builtin().type_named("core.v1.Pod").expect("pod");
        let mut pod = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}});
        apply_defaults(ty, &mut pod);
        assert_eq!(
            pod,
            json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}})
        );
    }

    #[test]
    fn zeros_that_are_always_written_are_filled_in() {
        let ty = Schema::builtin().type_named("core.v1.Service").expect("service");
        let mut service = json!({"spec": {}});
        fill_zeros(ty, &mut service);
        assert_eq!(service, json!({"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}));
    }
}
