//! Times as the API writes them: RFC 3339 in UTC, in seconds or in microseconds.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: i64 = 86_400;

/// A moment: seconds since 1970 and the nanoseconds after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub seconds: i64,
    pub nanos: u32,
}

impl Moment {
    /// The first moment of the year 1, which Go takes for "no time".
    pub const ZERO: Moment = Moment { seconds: -62_135_596_800, nanos: 0 };

    /// The present.
    pub fn now() -> Moment {
        SystemTime::now().into()
    }

    /// Parses RFC 3339: `2006-01-02T15:04:05Z`, with a fraction or an offset if wanted.
    pub fn parse(text: &str) -> Option<Moment> {
        let bytes = text.as_bytes();
        if bytes.len() < 20 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[10] != b'T' {
            return None;
        }
        if bytes[13] != b':' || bytes[16] != b':' {
            return None;
        }
        let (year, month, day) = (digits(&bytes[0..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
        let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
        if month == 0 || month > 12 || day == 0 || day > days_of_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (nanos, rest) = fraction(&bytes[19..])?;
        let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        Some(Moment { seconds: seconds - offset(rest)?, nanos })
    }

    /// `2006-01-02T15:04:05Z`.
    pub fn to_seconds(self) -> String {
        let mut out = String::with_capacity(20);
        self.write_civil(&mut out);
        out.push('Z');
        out
    }

    /// `2006-01-02T15:04:05.000000Z`.
    pub fn to_micros(self) -> String {
        let mut out = String::with_capacity(27);
        self.write_civil(&mut out);
        out.push('.');
        push_padded(&mut out, i64::from(self.nanos / 1000), 6);
        out.push('Z');
        out
    }

    fn write_civil(self, out: &mut String) {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let parts =
            [(year, 4, '-'), (month, 2, '-'), (day, 2, 'T'), (second / 3600, 2, ':'), (second / 60 % 60, 2, ':')];
        for (value, width, separator) in parts {
            push_padded(out, value, width);
            out.push(separator);
        }
        push_padded(out, second % 60, 2);
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos() }
    }
}

/// The present in seconds, as the API's metadata has it.
pub fn now_rfc3339() -> String {
    Moment::now().to_seconds()
}

/// The present in microseconds, as leases and events have it.
pub fn now_rfc3339_micro() -> String {
    Moment::now().to_micros()
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

fn push_padded(out: &mut String, value: i64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    out.extend(std::iter::repeat_n('0', width.saturating_sub(text.len())));
    out.push_str(text);
}

fn fraction(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let places = rest[..length].iter().copied().chain(std::iter::repeat(b'0'));
    let nanos = places.take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((nanos, &rest[length..]))
}

fn offset(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, by counting years from March so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_brought_to_utc_seconds() {
        for (text, want) in [
            ("2008-01-01T01:01:01Z", "2008-01-01T01:01:01Z"),
            ("2008-01-01T01:01:01.5+01:00", "2008-01-01T00:01:01Z"),
            ("2024-02-29T23:59:59-08:00", "2024-03-01T07:59:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Moment::parse(text).expect(text).to_seconds(), want);
        }
        assert_eq!(Moment::parse("0001-01-01T00:00:00Z"), Some(Moment::ZERO));
        assert_eq!(
            Moment::parse("2008-01-01T01:01:01.123456Z").expect("micros").to_micros(),
            "2008-01-01T01:01:01.123456Z"
        );
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "2008-01-01",
            "2008-13-01T01:01:01Z",
            "2023-02-29T00:00:00Z",
            "2008-01-01T24:01:01Z",
            "2008-01-01T01:01:01",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
