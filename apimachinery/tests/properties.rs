//! What holds for every input, not only for the examples.

use apimachinery::codec::{json, protobuf, yaml};
use apimachinery::labels::Selector;
use apimachinery::patch::{merge, strategic};
use apimachinery::schema::{FieldType, Schema, Type};
use apimachinery::{Quantity, fields};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Objects of a type, a few levels deep.
fn object_of(ty: &'static Type, depth: u32) -> BoxedStrategy<Value> {
    let names: Vec<String> = ty.fields.iter().filter(|f| !f.tag.is_empty()).map(|f| f.name.clone()).collect();
    if names.is_empty() || depth == 0 {
        return Just(Value::Object(Map::new())).boxed();
    }
    proptest::sample::subsequence(names.clone(), 0..=names.len().min(6))
        .prop_flat_map(move |chosen| {
            let entries: Vec<BoxedStrategy<(String, Value)>> = chosen
                .into_iter()
                .filter_map(|name| {
                    let field = ty.field(&name)?;
                    Some(value_of(&field.ty, depth).prop_map(move |value| (name.clone(), value)).boxed())
                })
                .collect();
            entries.prop_map(|entries| Value::Object(entries.into_iter().collect()))
        })
        .boxed()
}

fn value_of(ty: &'static FieldType, depth: u32) -> BoxedStrategy<Value> {
    match ty {
        FieldType::Bool => any::<bool>().prop_map(Value::from).boxed(),
        FieldType::Int32 => any::<i32>().prop_map(Value::from).boxed(),
        FieldType::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        FieldType::Double => any::<i32>().prop_map(|n| Value::from(f64::from(n) + 0.5)).boxed(),
        FieldType::String => "[a-z\u{e9}\n\"]{1,8}".prop_map(Value::from).boxed(),
        FieldType::Bytes => Just(Value::from("AAEC")).boxed(),
        FieldType::Time => Just(Value::from("2020-02-29T12:30:00Z")).boxed(),
        FieldType::MicroTime => Just(Value::from("2020-02-29T12:30:00.000001Z")).boxed(),
        FieldType::Quantity => {
            prop_oneof![Just("500m"), Just("1Gi"), Just("12"), Just("0")].prop_map(Value::from).boxed()
        }
        FieldType::IntOrString => {
            prop_oneof![any::<i32>().prop_map(Value::from), "[a-z]{1,5}".prop_map(Value::from)].boxed()
        }
        FieldType::Message(link) => object_of(Box::leak(Box::new(link.arc().clone())), depth - 1),
        FieldType::List(item) => {
            proptest::collection::vec(value_of(&item.ty, depth), 1..3).prop_map(Value::from).boxed()
        }
        FieldType::Map(value) => proptest::collection::btree_map("[a-z]{1,4}", value_of(&value.ty, depth), 1..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
            .boxed(),
        _ => Just(serde_json::json!({"any": [1, "x"]})).boxed(),
    }
}

fn pod() -> &'static Type {
    Schema::builtin().type_named("core.v1.Pod").expect("pods")
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ :#'\"a-z0-9.,\\-\\[\\]{}\n~|>&*!%@`]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Without nulls, which a merge patch cannot set.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect())
        }
        other => other,
    }
}

/// Lists of containers with names of their own.
fn containers() -> impl Strategy<Value = Value> {
    let container = (0..6_u8, "[a-c]{1,2}", proptest::option::of(1..4_u16));
    let list = proptest::collection::vec(container, 0..5);
    (list, proptest::collection::btree_set("[a-d]", 0..4)).prop_map(|(list, finalizers)| {
        let mut seen = std::collections::BTreeSet::new();
        let items: Vec<Value> = list
            .into_iter()
            .filter(|(name, ..)| seen.insert(*name))
            .map(|(name, image, port)| {
                let ports: Vec<Value> = port.into_iter().map(|p| serde_json::json!({"containerPort": p})).collect();
                serde_json::json!({"name": format!("c{name}"), "image": image, "ports": ports})
            })
            .collect();
        serde_json::json!({"metadata": {"finalizers": finalizers}, "spec": {"containers": items}})
    })
}

/// The same, whatever the order of lists.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect()),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn objects_come_back_from_protobuf(value in object_of(pod(), 4)) {
        let first = protobuf::decode_message(pod(), &protobuf::encode_message(pod(), &value).expect("bytes")).expect("a pod");
        let bytes = protobuf::encode_message(pod(), &first).expect("bytes");
        prop_assert_eq!(&protobuf::decode_message(pod(), &bytes).expect("a pod"), &first);
        prop_assert_eq!(protobuf::encode_message(pod(), &first).expect("bytes"), bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = protobuf::decode_message(pod(), &bytes);
        let _ = json::decode(&bytes);
        let _ = yaml::decode(&bytes);
    }

    #[test]
    fn yaml_reads_what_it_wrote(value in any_json()) {
        let text = yaml::encode(&value);
        let back = yaml::decode(text.as_bytes());
        prop_assert_eq!(back.expect(&text), value, "{}", text);
    }

    #[test]
    fn json_reads_what_it_wrote(value in any_json()) {
        prop_assert_eq!(json::decode(&json::encode(&value)).expect("JSON"), value);
    }

    #[test]
    fn a_merge_patch_of_a_difference_makes_the_other(a in any_json(), b in any_json()) {
        let (a, b) = (without_nulls(a), without_nulls(b));
        let mut got = a.clone();
        merge::apply(&mut got, &merge::diff(&a, &b));
        prop_assert_eq!(got, b);
    }

    #[test]
    fn a_strategic_patch_of_a_difference_makes_the_other(a in containers(), b in containers()) {
        let patch = strategic::two_way(pod(), &a, &b);
        let got = strategic::apply(pod(), a, patch.clone()).expect("applies");
        prop_assert_eq!(sorted(&got), sorted(&b), "{}", patch);
    }

    #[test]
    fn selectors_read_what_they_print(keys in proptest::collection::vec(("[a-z]{1,3}", 0..6_u8, "[a-z0-9]{1,3}"), 0..4)) {
        let terms: Vec<String> = keys.iter().map(|(key, operator, value)| match operator {
            0 => format!("{key}={value}"),
            1 => format!("{key}!={value}"),
            2 => format!("{key} in ({value},x)"),
            3 => format!("{key} notin ({value})"),
            4 => key.clone(),
            _ => format!("!{key}"),
        }).collect();
        let selector = Selector::parse(&terms.join(",")).expect("a selector");
        prop_assert_eq!(Selector::parse(&selector.to_string()).expect("printed"), selector);
    }

    #[test]
    fn any_text_is_a_selector_or_refused(text in ".{0,40}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).expect("printed"), selector);
        }
        if let Ok(selector) = fields::Selector::parse(&text) {
            prop_assert_eq!(fields::Selector::parse(&selector.to_string()).expect("printed"), selector);
        }
    }

    #[test]
    fn amounts_keep_their_value_in_canonical_form(number in 0..1_000_000_000_u64, fraction in 0..1000_u32, suffix in proptest::sample::select(vec!["", "m", "k", "M", "Ki", "Mi", "Gi", "e3", "u", "n"])) {
        let text = format!("{number}.{fraction:03}{suffix}");
        let amount: Quantity = text.parse().expect("an amount");
        let canonical = amount.to_string();
        let again: Quantity = canonical.parse().expect("canonical");
        prop_assert_eq!(again.to_string(), canonical);
    }

    #[test]
    fn sums_of_amounts_can_be_taken_apart(a in 0..1_000_000_i64, b in 0..1_000_000_i64) {
        let (a, b): (Quantity, Quantity) = (format!("{a}m").parse().expect("a"), format!("{b}Ki").parse().expect("b"));
        prop_assert_eq!(a + b - b, a);
        prop_assert!(a + b >= a);
    }
}
