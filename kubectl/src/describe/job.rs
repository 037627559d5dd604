//! Jobs.

use serde_json::Value;

use super::page::{NONE, Page, UNSET, controller};
use super::time::rfc1123;
use super::{Subject, template};
use crate::fields::{self, Fields};
use crate::printers::age;

/// Where a list of indexes is cut.
const INDEXES: usize = 50;

/// Writes a job.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (job, mut page) = (subject.object, Page::default());
    let (spec, status) = (job.at("spec"), job.at("status"));
    page.head(job);
    page.field(0, "Selector", super::bare_selector(spec.at("selector")));
    page.tags(job);
    if let Some(controller) = controller(job) {
        page.field(0, "Controlled By", controller);
    }
    for (label, field) in [
        ("Parallelism", "parallelism"),
        ("Completions", "completions"),
        ("Completion Mode", "completionMode"),
        ("Suspend", "suspend"),
        ("Backoff Limit", "backoffLimit"),
        ("TTL Seconds After Finished", "ttlSecondsAfterFinished"),
    ] {
        if spec.has(field) {
            page.field(0, label, fields::plain(spec.at(field)));
        } else if field == "completions" {
            page.field(0, label, UNSET);
        }
    }
    times(&mut page, status);
    if spec.has("activeDeadlineSeconds") {
        page.field(0, "Active Deadline Seconds", format_args!("{}s", spec.int("activeDeadlineSeconds")));
    }
    let ready = if status.has("ready") { format!(" ({} Ready)", status.int("ready")) } else { String::new() };
    let (active, succeeded, failed) = (status.int("active"), status.int("succeeded"), status.int("failed"));
    page.field(0, "Pods Statuses", format_args!("{active} Active{ready} / {succeeded} Succeeded / {failed} Failed"));
    if spec.text("completionMode") == "Indexed" {
        page.field(0, "Completed Indexes", indexes(status.text("completedIndexes")));
    }
    template::describe(&mut page, spec.at("template"));
    page
}

fn times(page: &mut Page, status: &Value) {
    let (start, end) = (status.at("startTime"), status.at("completionTime"));
    if !start.is_null() {
        page.field(0, "Start Time", rfc1123(start));
    }
    if !end.is_null() {
        page.field(0, "Completed At", rfc1123(end));
    }
    let parse = |time: &Value| time.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    if let (Some(start), Some(end)) = (parse(start), parse(end)) {
        page.field(0, "Duration", age::span(end.as_second() - start.as_second()));
    }
}

fn indexes(indexes: &str) -> String {
    if indexes.is_empty() {
        return NONE.to_owned();
    }
    match indexes.get(INDEXES..).and_then(|rest| rest.find(',')) {
        Some(end) => format!("{}...", &indexes[..=INDEXES + end]),
        None => indexes.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_indexes_are_cut_at_a_comma() {
        assert_eq!(indexes(""), NONE);
        assert_eq!(indexes("0-3"), "0-3");
        let long = "1,".repeat(40);
        assert_eq!(indexes(&long), format!("{}...", "1,".repeat(26)));
    }
}
