//! The five fields of a cron schedule, as Kubernetes reads them.

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The bounds of a field, and the names it knows for its numbers.
struct Bounds {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds { name: "minute", low: 0, high: 59, words: &[] },
    Bounds { name: "hour", low: 0, high: 23, words: &[] },
    Bounds { name: "day of month", low: 1, high: 31, words: &[] },
    Bounds { name: "month", low: 1, high: 12, words: &MONTHS },
    Bounds { name: "day of week", low: 0, high: 6, words: &DAYS },
];

/// Whether a schedule can be read.
pub fn check(schedule: &str) -> Result<(), String> {
    let rest = match schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ=")) {
        Some(with_zone) => with_zone.split_once(' ').map_or("", |(_, rest)| rest),
        None => schedule,
    };
    let rest = rest.trim();
    if let Some(descriptor) = rest.strip_prefix('@') {
        return self::descriptor(descriptor);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly {} fields, found {}: {schedule:?}", FIELDS.len(), fields.len()));
    }
    FIELDS.iter().zip(fields).try_for_each(|(bounds, field)| field.split(',').try_for_each(|part| range(part, bounds)))
}

fn descriptor(word: &str) -> Result<(), String> {
    match word {
        "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
        _ => match word.strip_prefix("every ") {
            Some(duration) if is_duration(duration) => Ok(()),
            _ => Err(format!("unrecognized descriptor: @{word}")),
        },
    }
}

/// A duration such as `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let units = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        if digits == 0 || !matches!(&rest[digits..units], "ns" | "us" | "µs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = &rest[units..];
    }
    !text.is_empty()
}

fn range(part: &str, bounds: &Bounds) -> Result<(), String> {
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => (span, step.parse::<u32>().ok().filter(|s| *s > 0).map(Some)),
        None => (part, Some(None)),
    };
    if step.is_none() {
        return Err(format!("invalid step in {part:?} of {}", bounds.name));
    }
    if span == "*" || span == "?" {
        return Ok(());
    }
    let (first, last) = match span.split_once('-') {
        Some((a, b)) => (number(a, bounds)?, number(b, bounds)?),
        None => (number(span, bounds)?, number(span, bounds)?),
    };
    if first < bounds.low || last > bounds.high || first > last {
        return Err(format!("{part:?} is out of the bounds {} to {} of {}", bounds.low, bounds.high, bounds.name));
    }
    Ok(())
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(index) = bounds.words.iter().position(|w| *w == lower) {
        return Ok(bounds.low + u32::try_from(index).unwrap_or(0));
    }
    text.parse().map_err(|_| format!("failed to parse {text:?} as a number of {}", bounds.name))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules_are_read_as_in_kubernetes() {
        for good in
            ["*/5 * * * *", "0 0 1 jan sun", "@hourly", "@every 1h30m", "1-5,10 ? * * 0-6/2", "TZ=UTC 0 0 * * *"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["-1", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "@never", "@every x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
