//! Pod disruption budgets.

use super::Subject;
use super::page::{Page, UNSET};
use crate::fields::{self, Fields};

/// Writes a pod disruption budget.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (budget, mut page) = (subject.object, Page::default());
    let (spec, status) = (budget.at("spec"), budget.at("status"));
    page.head(budget);
    if spec.has("minAvailable") {
        page.field(0, "Min available", fields::plain(spec.at("minAvailable")));
    } else if spec.has("maxUnavailable") {
        page.field(0, "Max unavailable", fields::plain(spec.at("maxUnavailable")));
    }
    let selector = spec.at("selector");
    page.field(0, "Selector", if selector.is_null() { UNSET.to_owned() } else { super::selector(selector) });
    page.line(0, "Status:");
    for (label, field) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        page.field(2, label, status.int(field));
    }
    page
}
