//! Any bytes as an enveloped object of any kind.
#![no_main]

use apimachinery::codec::protobuf::{decode, encode};
use apimachinery::schema::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let schema = Schema::builtin();
    if let Ok(value) = decode(schema, data) {
        let _ = encode(schema, &value);
    }
});
