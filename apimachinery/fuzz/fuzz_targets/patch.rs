//! Any JSON as a patch of a pod.
#![no_main]

use apimachinery::patch::{json, merge, strategic};
use apimachinery::schema::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&str, &str)| {
    let (Ok(object), Ok(patch)) = (serde_json::from_str(data.0), serde_json::from_str(data.1)) else { return };
    let ty = Schema::builtin().type_named("core.v1.Pod").expect("pods");
    let _ = json::apply(&object, &patch);
    let mut merged = object.clone();
    merge::apply(&mut merged, &patch);
    let _ = strategic::apply(ty, object, patch);
});
