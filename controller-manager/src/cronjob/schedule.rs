//! Cron schedules as Kubernetes has them: five fields (minute, hour, day of month, month, day of week), or `@daily` and the like, or `@every 90s`.
//! Where days of the month and of the week are both given, one of them is enough. Pure.

use std::str::FromStr;

use component_base::options::GoDuration;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};

/// A schedule that has no time within these years has none.
const HORIZON_YEARS: i16 = 5;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A text that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid schedule {text:?}: {problem}")]
pub struct Invalid {
    text: String,
    problem: String,
}

/// When something is to happen again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Box<Fields>),
    Every(SignedDuration),
}

/// The values of each field, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days of the month, or of the week, are not limited.
    any_day: bool,
    any_weekday: bool,
}

impl FromStr for Schedule {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |problem: &str| Invalid { text: text.to_owned(), problem: problem.to_owned() };
        if let Some(duration) = text.strip_prefix("@every ") {
            let duration: GoDuration = duration.parse().map_err(|_| invalid("@every needs a duration"))?;
            let seconds =
                i64::try_from(duration.0.as_secs().max(1)).map_err(|_| invalid("the duration is too long"))?;
            return Ok(Self::Every(SignedDuration::from_secs(seconds)));
        }
        let expanded = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err(invalid("expected five fields")) };
        let read = |field: &str, bounds: (u32, u32), names: &[&str]| {
            bits(field, bounds, names).ok_or_else(|| invalid(&format!("{field:?} is out of form or bounds")))
        };
        let is_any = |field: &str| field.split(',').any(|part| part.starts_with(['*', '?']) && !part.contains('/'));
        Ok(Self::Fields(Box::new(Fields {
            minutes: read(minute, (0, 59), &[])?,
            hours: read(hour, (0, 23), &[])?,
            days: read(day, (1, 31), &[])?,
            months: read(month, (1, 12), &MONTHS)?,
            weekdays: read(weekday, (0, 6), &DAYS)?,
            any_day: is_any(day),
            any_weekday: is_any(weekday),
        })))
    }
}

/// The values that a field allows.
fn bits(field: &str, (low, high): (u32, u32), names: &[&str]) -> Option<u64> {
    let value = |text: &str| -> Option<u32> {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let number = match named {
            // Months count from one, days of the week from zero.
            Some(position) => u32::try_from(position).ok()? + low,
            None => text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))?,
        };
        (low..=high).contains(&number).then_some(number)
    };
    let mut all = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (low, high),
            Some((first, last)) => (value(first)?, value(last)?),
            // With a step a single value is a beginning.
            None => (value(range)?, if step.is_some() { high } else { value(range)? }),
        };
        if first > last {
            return None;
        }
        for number in (first..=last).step_by(usize::try_from(step.unwrap_or(1)).ok()?) {
            all |= 1 << number;
        }
    }
    Some(all)
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

impl Fields {
    fn has_day(&self, time: DateTime) -> bool {
        let day = has(self.days, time.day());
        let weekday = has(self.weekdays, time.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// The first time on a calendar and clock at or after this one.
    fn at_or_after(&self, mut time: DateTime) -> Option<DateTime> {
        let last_year = time.year().checked_add(HORIZON_YEARS)?;
        while time.year() <= last_year {
            let midnight = |time: DateTime| time.date().to_datetime(jiff::civil::Time::midnight());
            time = if !has(self.months, time.month()) {
                midnight(time.first_of_month()).checked_add(Span::new().months(1)).ok()?
            } else if !self.has_day(time) {
                midnight(time).checked_add(Span::new().days(1)).ok()?
            } else if !has(self.hours, time.hour()) {
                time.with().minute(0).build().ok()?.checked_add(Span::new().hours(1)).ok()?
            } else if !has(self.minutes, time.minute()) {
                time.checked_add(Span::new().minutes(1)).ok()?
            } else {
                return Some(time);
            };
        }
        None
    }
}

impl Schedule {
    /// The first time after `after`; `None` if there is none. A time that a change of the clocks leaves out is left out, one that it repeats
    /// is there twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = match self {
            Self::Every(period) => return Timestamp::from_second(after.as_second()).ok()?.checked_add(*period).ok(),
            Self::Fields(fields) => fields,
        };
        let here = zone.to_datetime(after);
        let mut time = here.with().second(0).subsec_nanosecond(0).build().ok()?;
        loop {
            time = fields.at_or_after(time)?;
            let moments = match zone.to_ambiguous_timestamp(time).offset() {
                AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                AmbiguousOffset::Gap { .. } => [None, None],
                AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
            };
            let moments = moments.into_iter().flatten().filter_map(|offset| offset.to_timestamp(time).ok());
            if let Some(found) = moments.filter(|moment| *moment > after).min() {
                return Some(found);
            }
            time = time.checked_add(Span::new().minutes(1)).ok()?;
        }
    }

    /// The last time in (`from`, `to`], and how many there were, counted up to `most`.
    pub fn latest(&self, from: Timestamp, to: Timestamp, zone: &TimeZone, most: usize) -> (Option<Timestamp>, usize) {
        let first = self.next(from, zone).filter(|first| *first <= to);
        let Some(first) = first else { return (None, 0) };
        let (mut latest, mut count) = (first, 1);
        while let Some(next) = self.next(latest, zone).filter(|next| *next <= to) {
            count += 1;
            if count > most {
                // Too many to go through: look for the last from the end.
                return (Some(self.last_before(first, next.duration_since(latest), to, zone)), count);
            }
            latest = next;
        }
        (Some(latest), count)
    }

    fn last_before(&self, first: Timestamp, period: SignedDuration, to: Timestamp, zone: &TimeZone) -> Timestamp {
        let mut span = period;
        loop {
            let from = to.checked_sub(span).unwrap_or(first).max(first);
            let mut found = None;
            let mut cursor = from;
            while let Some(next) = self.next(cursor, zone).filter(|next| *next <= to) {
                (found, cursor) = (Some(next), next);
            }
            match found {
                Some(found) => return found,
                None if from == first => return first,
                None => span = span.saturating_mul(2),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let next = schedule.parse::<Schedule>().unwrap().next(after.parse().unwrap(), &zone);
        next.map_or("never".to_owned(), |next| next.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %z").to_string())
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, after, expected) in [
            ("*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01 00:15:00 +0000"),
            ("*/15 * * * *", "2026-01-01T00:14:59.5Z", "2026-01-01 00:15:00 +0000"),
            ("5/20 * * * *", "2026-01-01T00:06:00Z", "2026-01-01 00:25:00 +0000"),
            ("0 9-17/4 * * mon-fri", "2026-01-02T17:30:00Z", "2026-01-05 09:00:00 +0000"),
            ("30 6 31 * *", "2026-02-01T00:00:00Z", "2026-03-31 06:30:00 +0000"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02 00:00:00 +0000"),
            ("0 0 */10 * 5", "2026-01-02T00:00:00Z", "2026-01-09 00:00:00 +0000"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29 00:00:00 +0000"),
            ("0 0 30 feb ?", "2026-01-01T00:00:00Z", "never"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04 00:00:00 +0000"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01 00:00:00 +0000"),
            ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01 00:01:30 +0000"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn clocks_that_change_leave_out_and_repeat() {
        for (schedule, after, expected) in [
            ("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30 02:30:00 +0200"),
            ("30 * * * *", "2026-03-29T00:45:00Z", "2026-03-29 03:30:00 +0200"),
            ("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25 02:30:00 +0200"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25 02:30:00 +0100"),
            ("0 12 * * *", "2026-07-01T00:00:00Z", "2026-07-01 12:00:00 +0200"),
        ] {
            assert_eq!(next(schedule, after, "Europe/Berlin"), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@often",
            "@every x",
            "-1 * * * *",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_last_time_that_was_missed_is_found() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let hourly: Schedule = "0 * * * *".parse().unwrap();
        let minutely: Schedule = "* * * * *".parse().unwrap();
        for (schedule, from, to, expected) in [
            (&hourly, "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z", (None, 0)),
            (&hourly, "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", (Some("2026-01-01T01:00:00Z"), 1)),
            (&hourly, "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z", (Some("2026-01-01T03:00:00Z"), 3)),
            (&minutely, "2026-01-01T00:00:00Z", "2027-01-01T00:00:30Z", (Some("2027-01-01T00:00:00Z"), 101)),
        ] {
            let found = schedule.latest(at(from), at(to), &TimeZone::UTC, 100);
            assert_eq!(found, (expected.0.map(at), expected.1), "{from} {to}");
        }
    }
}
