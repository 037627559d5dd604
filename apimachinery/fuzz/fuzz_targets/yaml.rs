//! Any bytes as YAML.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = apimachinery::codec::yaml::decode(data) {
        let text = apimachinery::codec::yaml::encode(&value);
        assert_eq!(apimachinery::codec::yaml::decode(text.as_bytes()).as_ref(), Ok(&value), "{text}");
    }
});
