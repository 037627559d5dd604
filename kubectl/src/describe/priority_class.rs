//! Priority classes.

use super::Subject;
use super::page::{Page, joined};
use crate::fields::{self, Fields};

/// Writes a priority class.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (class, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(class));
    page.field(0, "Value", class.int("value"));
    page.field(0, "GlobalDefault", class.flag("globalDefault"));
    page.field(0, "PreemptionPolicy", class.text("preemptionPolicy"));
    page.field(0, "Description", class.text("description"));
    page.field(0, "Annotations", joined(class.at("metadata.annotations")));
    page
}
