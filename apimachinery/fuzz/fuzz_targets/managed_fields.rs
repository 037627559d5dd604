//! Any JSON as a set of fields.
#![no_main]

use apimachinery::managed_fields::Set;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str(text) else { return };
    if let Ok(set) = Set::decode(&value) {
        assert_eq!(Set::decode(&set.encode()), Ok(set));
    }
});
