//! Any bytes as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = apimachinery::codec::json::decode(data) {
        let again = apimachinery::codec::json::decode(&apimachinery::codec::json::encode(&value));
        assert_eq!(again.as_ref(), Ok(&value));
    }
});
