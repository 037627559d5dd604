//! Any bytes as the body of a request for a pod.
#![no_main]

use apimachinery::codec::{FieldValidation, MediaType, decode_object};
use apimachinery::schema::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let schema = Schema::builtin();
    let ty = schema.type_named("core.v1.Pod").expect("pods");
    for media in [MediaType::Json, MediaType::Yaml, MediaType::Protobuf] {
        let _ = decode_object(schema, ty, media, data, FieldValidation::Strict);
    }
});
