//! The hot functions of the API server's path, on a pod as a running cluster has it (3.7 KB of JSON).

use apimachinery::codec::{FieldValidation, MediaType, decode_object, json, protobuf};
use apimachinery::labels::Selector;
use apimachinery::managed_fields::{Set, Writer, update};
use apimachinery::schema::Schema;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const POD: &str = include_str!("pod.json");

fn codec(criterion: &mut Criterion) {
    let schema = Schema::builtin();
    let ty = schema.type_for_kind("v1", "Pod").expect("pods");
    let body = POD.as_bytes();
    let decode = || decode_object(schema, ty, MediaType::Json, body, FieldValidation::Strict).expect("a pod");
    let pod = decode().value;
    let bytes = protobuf::encode_message(ty, &pod).expect("bytes");
    criterion.bench_function("json/decode pod", |b| b.iter(|| json::decode(black_box(body)).expect("JSON")));
    criterion.bench_function("json/encode pod", |b| b.iter(|| json::encode(black_box(&pod))));
    criterion.bench_function("decode_object pod", |b| b.iter(decode));
    criterion.bench_function("protobuf/encode pod", |b| {
        b.iter(|| protobuf::encode_message(ty, black_box(&pod)).expect("bytes"));
    });
    criterion.bench_function("protobuf/decode pod", |b| {
        b.iter(|| protobuf::decode_message(ty, black_box(&bytes)).expect("a pod"));
    });
}

fn selectors(criterion: &mut Criterion) {
    let pod = json::decode(POD.as_bytes()).expect("JSON");
    let selector = Selector::parse("app=web,tier in (a,b),!canary").expect("a selector");
    criterion.bench_function("selector/match", |b| b.iter(|| selector.matches_object(black_box(&pod))));
}

fn managed(criterion: &mut Criterion) {
    let ty = &**Schema::builtin().type_for_kind("v1", "Pod").expect("pods");
    let reset = Set::of_fields(&["status"]);
    let writer =
        Writer { manager: "m", subresource: "", api_version: "v1", now: "2026-01-01T00:00:00Z", reset: &reset };
    let pod = json::decode(POD.as_bytes()).expect("JSON");
    let created = update(ty, &serde_json::Value::Null, pod, &writer);
    criterion.bench_function("managed fields/update pod", |b| {
        b.iter(|| {
            let mut new = created.clone();
            new["metadata"]["labels"]["x"] = "1".into();
            update(ty, black_box(&created), new, &writer)
        });
    });
}

criterion_group!(benches, codec, selectors, managed);
criterion_main!(benches);
