//! Amounts of resources: `500m`, `1Gi`, `2e3`, with Kubernetes' canonical forms and rounding.
//!
//! "Resource units in Kubernetes" and the API reference of `Quantity`. Amounts are kept in billionths, the smallest
//! amount the API knows; smaller ones are rounded up, larger ones than a signed 64-bit number are cut to it.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Neg, Sub};
use std::str::FromStr;

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// An amount.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

const NANO: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANO;
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Self {
        Quantity { nanos: i128::from(value) * NANO, format }
    }

    /// An amount in thousandths.
    pub fn from_millis(millis: i64, format: Format) -> Self {
        Quantity { nanos: i128::from(millis) * (NANO / 1000), format }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// The amount as a whole number, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(&self, unit: i128) -> i64 {
        let sign = self.nanos.signum();
        let up = (self.nanos.abs() + unit - 1) / unit * sign;
        i64::try_from(up).unwrap_or(if sign < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whether the amount is a whole number.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }

    fn combine(self, other: Quantity, nanos: i128) -> Quantity {
        Quantity { nanos, format: if self.is_zero() { other.format } else { self.format } }
    }

    fn write_decimal(&self, out: &mut fmt::Formatter<'_>, exponent_form: bool) -> fmt::Result {
        let (mut mantissa, mut place) = (self.nanos, 0);
        while place < DECIMAL_SUFFIXES.len() - 1 && mantissa % 1000 == 0 {
            mantissa /= 1000;
            place += 1;
        }
        let exponent = place as i32 * 3 - 9;
        match exponent_form {
            true if exponent == 0 => write!(out, "{mantissa}"),
            true => write!(out, "{mantissa}e{exponent}"),
            false => write!(out, "{mantissa}{}", DECIMAL_SUFFIXES[place]),
        }
    }

    fn write_binary(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = self.nanos.signum();
        let (mut mantissa, mut place) = ((self.nanos.abs() + NANO - 1) / NANO * sign, 0);
        while place < BINARY_SUFFIXES.len() - 1 && mantissa % 1024 == 0 {
            mantissa /= 1024;
            place += 1;
        }
        write!(out, "{mantissa}{}", BINARY_SUFFIXES[place])
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, and the largest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        match self.format {
            Format::BinarySi if self.nanos.abs() < 1024 * NANO => self.write_decimal(f, false),
            Format::BinarySi => self.write_binary(f),
            Format::DecimalSi => self.write_decimal(f, false),
            Format::DecimalExponent => self.write_decimal(f, true),
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(ParseError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let split = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(split);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if part.contains('.') || !is_suffix_shaped(suffix) {
            return Err(ParseError::Format);
        }
        if whole.is_empty() && part.is_empty() {
            return Err(if number.is_empty() { ParseError::Format } else { ParseError::Numeric });
        }
        let (format, exponent) = parse_suffix(suffix)?;
        let magnitude = match format {
            Format::BinarySi => binary_nanos(whole, part, exponent),
            _ => decimal_nanos(whole, part, exponent),
        };
        let magnitude = magnitude.min(MAX);
        let below_one = format == Format::BinarySi && magnitude > 0 && magnitude < NANO;
        let format = if below_one { Format::DecimalSi } else { format };
        Ok(Quantity { nanos: if negative { -magnitude } else { magnitude }, format })
    }
}

/// Letters, then a sign and digits.
fn is_suffix_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

/// The format, and the exponent of ten or two.
fn parse_suffix(suffix: &str) -> Result<(Format, i32), ParseError> {
    if let Some(place) = DECIMAL_SUFFIXES.iter().position(|s| *s == suffix) {
        return Ok((Format::DecimalSi, place as i32 * 3 - 9));
    }
    if let Some(place) = BINARY_SUFFIXES.iter().position(|s| *s == suffix) {
        return Ok((Format::BinarySi, place as i32 * 10));
    }
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    let exponent: i32 = digits.parse().map_err(|_| ParseError::Suffix)?;
    Ok((Format::DecimalExponent, exponent))
}

/// More digits than any amount that is not cut anyway.
const MAX_DIGITS: usize = 37;

fn number(digits: impl Iterator<Item = u8>) -> i128 {
    digits.fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'))
}

fn decimal_nanos(whole: &str, part: &str, exponent: i32) -> i128 {
    let digits: Vec<u8> = whole.bytes().chain(part.bytes()).collect();
    let first = digits.iter().position(|d| *d != b'0').unwrap_or(digits.len());
    let significant = &digits[first..];
    if significant.is_empty() {
        return 0;
    }
    // How many of the significant digits stand before the point when counting in billionths.
    let point = whole.len() as i64 - first as i64 + i64::from(exponent) + 9;
    if point > MAX_DIGITS as i64 {
        return MAX;
    }
    let point = usize::try_from(point).unwrap_or(0);
    let kept = number((0..point).map(|at| significant.get(at).copied().unwrap_or(b'0')));
    let rest = significant.iter().skip(point).any(|d| *d != b'0');
    kept + i128::from(rest)
}

fn binary_nanos(whole: &str, part: &str, exponent: i32) -> i128 {
    const MAX_PART: usize = 18;
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return MAX;
    }
    let whole = number(whole.bytes());
    if whole > i128::from(i64::MAX) >> exponent {
        return MAX;
    }
    let kept = &part[..part.len().min(MAX_PART)];
    let dropped = part.bytes().skip(MAX_PART).any(|d| d != b'0');
    let scale = 10_i128.pow(kept.len() as u32);
    let shifted = number(kept.bytes()) << exponent;
    let below = shifted / scale * NANO + (shifted % scale * NANO + scale - 1) / scale;
    (whole << exponent) * NANO + below + i128::from(dropped && exponent == 0)
}

/// The canonical form of an amount as written; `None` where it is canonical already.
pub fn canonical(text: &str) -> Result<Option<String>, ParseError> {
    if is_plainly_canonical(text) {
        return Ok(None);
    }
    let canonical = text.parse::<Quantity>()?.to_string();
    Ok((canonical != text).then_some(canonical))
}

/// The common cases, without arithmetic: up to three digits, and at most a suffix that three digits cannot make shorter.
fn is_plainly_canonical(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 3 || bytes[0] == b'0' {
        return text == "0";
    }
    matches!(&bytes[digits..], b"" | b"m" | b"k" | b"M" | b"G" | b"Ki" | b"Mi" | b"Gi" | b"Ti")
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        self.combine(other, self.nanos.saturating_add(other.nanos))
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self.combine(other, self.nanos.saturating_sub(other.nanos))
    }
}

impl Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity { nanos: -self.nanos, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_their_canonical_form() {
        for (text, want) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Mi", "512Ki"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1000e-3", "1"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("1000", "1k"),
            ("100000000", "100M"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            ("0.0000000001", "1n"),
            ("100u", "100u"),
            ("5.", "5"),
            (".5", "500m"),
            ("9999999999999999999", "9223372036854775807"),
            ("100Ei", "9223372036854775807"),
            ("0.5Ki", "512"),
            ("1023Ki", "1023Ki"),
            ("0Gi", "0"),
            ("1Ti", "1Ti"),
        ] {
            let got = text.parse::<Quantity>().expect(text).to_string();
            assert_eq!(got, want, "{text}");
            let quick = canonical(text).expect(text);
            assert_eq!(quick.as_deref().unwrap_or(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for (text, want) in [
            ("", ParseError::Format),
            ("abc", ParseError::Format),
            ("1.2.3", ParseError::Format),
            ("1 Gi", ParseError::Format),
            ("1mm", ParseError::Suffix),
            ("1K", ParseError::Suffix),
            ("1e", ParseError::Suffix),
            (".", ParseError::Numeric),
        ] {
            assert_eq!(text.parse::<Quantity>().expect_err(text), want, "{text}");
        }
    }

    #[test]
    fn arithmetic_keeps_the_format() {
        let gi: Quantity = "1Gi".parse().expect("amount");
        assert_eq!((gi + gi).to_string(), "2Gi");
        assert_eq!((gi - gi).to_string(), "0");
        assert_eq!((Quantity::ZERO + gi).to_string(), "1Gi");
        let cpu: Quantity = "1500m".parse().expect("amount");
        assert_eq!((cpu.value(), cpu.milli_value()), (2, 1500));
        assert!(cpu > "1".parse().expect("amount"));
    }
}
