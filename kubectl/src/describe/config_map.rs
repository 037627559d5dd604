//! Config maps.

use super::Subject;
use super::page::Page;
use super::secret::length;
use crate::fields::{self, Fields};

/// Writes a config map.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (map, mut page) = (subject.object, Page::default());
    page.head(map);
    page.tags(map);
    page.line(0, "\nData\n====");
    for (key, value) in map.map("data").into_iter().flatten() {
        page.line(0, format_args!("{key}:\n----\n{}\n", fields::plain(value)));
    }
    page.line(0, "\nBinaryData\n====");
    for (key, value) in map.map("binaryData").into_iter().flatten() {
        page.line(0, format_args!("{key}: {} bytes", length(value)));
    }
    page.line(0, "");
    page
}
