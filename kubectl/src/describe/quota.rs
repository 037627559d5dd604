//! Resource quotas and limit ranges, of their own and as part of a namespace.

use std::collections::BTreeSet;

use apimachinery::Quantity;
use serde_json::Value;

use super::Subject;
use super::containers::quantity;
use super::page::Page;
use crate::fields::{self, Fields};

const LIMITS: &str = "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio";
const RULE: &str = "----\t--------\t---\t---\t---------------\t-------------\t-----------------------";

/// Writes a resource quota.
pub fn resource_quota(subject: &Subject<'_>) -> Page {
    let (quota, mut page) = (subject.object, Page::default());
    page.head(quota);
    scopes(&mut page, 0, quota, " * ");
    page.line(0, "Resource\tUsed\tHard");
    page.line(0, "--------\t----\t----");
    amounts(&mut page, 0, quota);
    page
}

/// Writes the quotas of a namespace.
pub fn resource_quotas(page: &mut Page, quotas: &[Value]) {
    if quotas.is_empty() {
        return page.line(0, "No resource quota.");
    }
    let mut sorted: Vec<&Value> = quotas.iter().collect();
    sorted.sort_by_key(|quota| fields::name(quota));
    page.line(0, "Resource Quotas");
    for quota in sorted {
        page.field(1, "Name", fields::name(quota));
        scopes(page, 1, quota, "* ");
        page.line(1, "Resource\tUsed\tHard");
        page.line(1, "--------\t---\t---");
        amounts(page, 1, quota);
    }
}

fn scopes(page: &mut Page, level: usize, quota: &Value, bullet: &str) {
    let mut scopes = quota.texts("spec.scopes");
    if scopes.is_empty() {
        return;
    }
    scopes.sort_unstable();
    page.field(level, "Scopes", scopes.join(", "));
    for help in scopes.into_iter().filter_map(help) {
        page.line(level, format_args!("{bullet}{help}"));
    }
}

fn help(scope: &str) -> Option<&'static str> {
    Some(match scope {
        "Terminating" => {
            "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system."
        }
        "NotTerminating" => {
            "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate."
        }
        "BestEffort" => {
            "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service."
        }
        "NotBestEffort" => {
            "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service."
        }
        _ => return None,
    })
}

fn amounts(page: &mut Page, level: usize, quota: &Value) {
    let parse = |value: &Value| fields::plain(value).parse::<Quantity>().unwrap_or(Quantity::ZERO);
    for (name, hard) in quota.map("status.hard").into_iter().flatten() {
        let (hard, mut used) = (parse(hard), parse(&quota["status"]["used"][name]));
        if level == 0 && hard.format() != used.format() {
            used = Quantity::new(used.value(), hard.format());
        }
        page.line(level, format_args!("{name}\t{used}\t{hard}"));
    }
}

/// Writes a limit range.
pub fn limit_range(subject: &Subject<'_>) -> Page {
    let mut page = Page::default();
    page.head(subject.object);
    page.line(0, LIMITS);
    page.line(0, RULE);
    limits(&mut page, "", subject.object);
    page
}

/// Writes the limit ranges of a namespace.
pub fn limit_ranges(page: &mut Page, ranges: &[Value]) {
    if ranges.is_empty() {
        return page.line(0, "No LimitRange resource.");
    }
    page.line(0, "Resource Limits");
    page.line(0, format_args!(" {LIMITS}"));
    page.line(0, format_args!(" {RULE}"));
    ranges.iter().for_each(|range| limits(page, " ", range));
}

fn limits(page: &mut Page, indent: &str, range: &Value) {
    const FIELDS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for limit in range.list("spec.limits") {
        let names: BTreeSet<&String> =
            FIELDS.iter().filter_map(|field| limit.map(field)).flat_map(|map| map.keys()).collect();
        for name in names {
            let cell = |field: &&str| match &limit[*field][name] {
                Value::Null => "-".to_owned(),
                amount => quantity(amount),
            };
            let cells: Vec<String> = FIELDS.iter().map(cell).collect();
            page.line(0, format_args!("{indent}{}\t{name}\t{}", limit.text("type"), cells.join("\t")));
        }
    }
}
