//! Quantities of the API as numbers.

use apimachinery::quantity::Quantity as Parsed;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value rounded up to a whole number; `None` when the text is not a quantity (the API server refuses such objects).
pub fn value(quantity: &Quantity) -> Option<i64> {
    parse(&quantity.0).map(|quantity| quantity.value())
}

/// The value in thousandths.
pub fn millis(quantity: &Quantity) -> Option<i64> {
    parse(&quantity.0).map(|quantity| quantity.milli_value())
}

pub fn parse(text: &str) -> Option<Parsed> {
    text.parse().ok()
}
