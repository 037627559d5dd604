//! The events about an object, oldest first.

use jiff::Timestamp;
use serde_json::Value;

use super::page::{NONE, Page};
use super::time::since;
use crate::fields::{self, Fields};

/// Writes the events at the end of a page.
pub fn describe(page: &mut Page, events: &[Value], now: Timestamp) {
    if events.is_empty() {
        return page.field(0, "Events", NONE);
    }
    let mut events: Vec<&Value> = events.iter().collect();
    events.sort_by_key(|event| event.text("lastTimestamp").parse::<Timestamp>().unwrap_or(Timestamp::MIN));
    page.line(0, "Events:");
    page.line(1, "Type\tReason\tAge\tFrom\tMessage");
    page.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        page.line(
            1,
            format_args!(
                "{}\t{}\t{}\t{}\t{}",
                event.text("type"),
                event.text("reason"),
                interval(event, now),
                fields::or(event.text("source.component"), event.text("reportingComponent")),
                event.text("message").trim()
            ),
        );
    }
}

/// When it happened, and how often since when.
fn interval(event: &Value, now: Timestamp) -> String {
    let first = if event.has("eventTime") { event.at("eventTime") } else { event.at("firstTimestamp") };
    let first = since(first, now);
    if event.has("series") {
        let last = since(event.at("series.lastObservedTime"), now);
        return format!("{last} (x{} over {first})", event.int("series.count"));
    }
    match event.int("count") {
        count if count > 1 => format!("{} (x{count} over {first})", since(event.at("lastTimestamp"), now)),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_say_when_and_how_often() {
        let now: Timestamp = "2026-01-02T03:10:00Z".parse().unwrap();
        let once = json!({"firstTimestamp": "2026-01-02T03:09:00Z", "count": 1});
        let often =
            json!({"firstTimestamp": "2026-01-02T03:00:00Z", "lastTimestamp": "2026-01-02T03:09:30Z", "count": 4});
        let series = json!({"eventTime": "2026-01-02T03:05:00.000000Z", "series": {"count": 2, "lastObservedTime": "2026-01-02T03:09:00.000000Z"}});
        assert_eq!(interval(&once, now), "60s");
        assert_eq!(interval(&often, now), "30s (x4 over 10m)");
        assert_eq!(interval(&series, now), "60s (x2 over 5m)");
        let mut page = Page::default();
        describe(&mut page, &[], now);
        assert_eq!(page.finish(), "Events:  <none>\n");
    }
}
