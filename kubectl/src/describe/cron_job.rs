//! Cron jobs.

use serde_json::Value;

use super::page::{NONE, Page, UNSET, or_unset, truth};
use super::time::rfc1123;
use super::{Subject, template};
use crate::fields::Fields;

/// Writes a cron job.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (job, mut page) = (subject.object, Page::default());
    let spec = job.at("spec");
    page.head(job);
    page.tags(job);
    page.field(0, "Schedule", spec.text("schedule"));
    page.field(0, "Concurrency Policy", spec.text("concurrencyPolicy"));
    page.field(0, "Suspend", spec.at("suspend").as_bool().map_or(UNSET, truth));
    page.field(0, "Successful Job History Limit", or_unset(spec.at("successfulJobsHistoryLimit")));
    page.field(0, "Failed Job History Limit", or_unset(spec.at("failedJobsHistoryLimit")));
    page.field(0, "Starting Deadline Seconds", seconds(spec.at("startingDeadlineSeconds")));
    of_job(&mut page, spec.at("jobTemplate.spec"));
    let last = job.at("status.lastScheduleTime");
    page.field(0, "Last Schedule Time", if last.is_null() { UNSET.to_owned() } else { rfc1123(last) });
    let active: Vec<&str> = job.list("status.active").iter().map(|job| job.text("name")).collect();
    page.field(0, "Active Jobs", if active.is_empty() { NONE.to_owned() } else { active.join(", ") });
    page
}

fn seconds(value: &Value) -> String {
    value.as_i64().map_or_else(|| UNSET.to_owned(), |seconds| format!("{seconds}s"))
}

fn of_job(page: &mut Page, spec: &Value) {
    let selector = spec.at("selector");
    page.field(0, "Selector", if selector.is_null() { UNSET.to_owned() } else { super::bare_selector(selector) });
    page.field(0, "Parallelism", or_unset(spec.at("parallelism")));
    page.field(0, "Completions", or_unset(spec.at("completions")));
    if spec.has("activeDeadlineSeconds") {
        page.field(0, "Active Deadline Seconds", seconds(spec.at("activeDeadlineSeconds")));
    }
    template::describe(page, spec.at("template"));
}
