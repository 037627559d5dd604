//! Points in time in descriptions.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::printers::age;

/// `Fri, 02 Jan 2026 03:04:05 +0000`, in the local time zone; the beginning of the calendar where there is none.
pub fn rfc1123(time: &Value) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        None => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}

/// How long ago it was.
pub fn since(time: &Value, now: Timestamp) -> String {
    age::since(time.as_str(), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_missing_is_the_first_of_all() {
        assert_eq!(rfc1123(&Value::Null), "Mon, 01 Jan 0001 00:00:00 +0000");
    }
}
