//! Any text as a selector.
#![no_main]

use apimachinery::{fields, labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = labels::Selector::parse(text) {
        assert_eq!(labels::Selector::parse(&selector.to_string()), Ok(selector));
    }
    let _ = fields::Selector::parse(text);
});
