//! How values read in a table.

use apimachinery::time::Moment;
use serde_json::{Value, json};

/// What stands for nothing.
pub const NONE: &str = "<none>";
pub const UNKNOWN: &str = "<unknown>";
pub const UNSET: &str = "<unset>";

pub fn name(obj: &Value) -> Value {
    json!(obj["metadata"]["name"].as_str().unwrap_or(""))
}

/// A text, empty where there is none.
pub fn text(value: &Value) -> Value {
    json!(value.as_str().unwrap_or(""))
}

/// A text, or another where there is none.
pub fn text_or(value: &Value, other: &str) -> Value {
    json!(value.as_str().filter(|s| !s.is_empty()).unwrap_or(other))
}

/// A text or a number as text.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub fn age(obj: &Value, now: Moment) -> Value {
    json!(since(&obj["metadata"]["creationTimestamp"], now))
}

/// How long ago a time was.
pub fn since(time: &Value, now: Moment) -> String {
    match time.as_str().and_then(Moment::parse) {
        Some(then) => human_duration(now.seconds - then.seconds),
        None => UNKNOWN.to_owned(),
    }
}

/// A duration in seconds as people say it: coarser the longer it is.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let pair = |big: i64, unit: &str, small: i64, below: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{below}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => pair(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => pair(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => pair(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// The items of a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a list of objects, one field each, joined by commas.
pub fn joined(items: &Value, field: &str) -> String {
    let texts: Vec<&str> = list(items).iter().map(|i| i[field].as_str().unwrap_or("")).collect();
    texts.join(",")
}

/// A list of texts, joined.
pub fn texts(items: &Value, separator: &str) -> String {
    let texts: Vec<&str> = list(items).iter().filter_map(Value::as_str).collect();
    texts.join(separator)
}

/// The first few of many, and how many more there are.
pub fn first_few(all: &[String], max: usize) -> String {
    let shown = all.iter().take(max).cloned().collect::<Vec<_>>().join(",");
    if all.len() > max { format!("{shown} + {} more...", all.len() - max) } else { shown }
}

/// Labels as `a=b,c=d`.
pub fn labels(labels: &Value) -> String {
    let mut pairs: Vec<String> =
        labels.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", plain(v))).collect();
    pairs.sort();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A label selector, in the form that selects with `-l`.
pub fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> =
        selector["matchLabels"].as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", plain(v))).collect();
    for requirement in list(&selector["matchExpressions"]) {
        let key = requirement["key"].as_str().unwrap_or("");
        let mut values: Vec<&str> = list(&requirement["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match requirement["operator"].as_str().unwrap_or("") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.sort();
    if parts.is_empty() { NONE.to_owned() } else { parts.join(",") }
}

/// The status of a condition, if it was ever observed.
pub fn condition<'v>(obj: &'v Value, kind: &str) -> Option<&'v Value> {
    list(&obj["status"]["conditions"]).iter().find(|c| c["type"] == kind)
}

/// Whether a condition is true.
pub fn is_true(obj: &Value, kind: &str) -> bool {
    condition(obj, kind).is_some_and(|c| c["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_read_as_in_kubernetes() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
