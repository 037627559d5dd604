//! Reading quantities as the integers that scheduling counts in: thousandths for cpu, units for everything else.
//! Both round up, and saturate at the ends of `i64`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths, rounded up. A quantity that is not one counts as 0: the API server refuses those.
pub fn milli(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1000).unwrap_or(0)
}

/// The value in units, rounded up.
pub fn value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1).unwrap_or(0)
}

fn scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut numerator = digits.checked_mul(scale)?;
    let mut denominator = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    match multiplier(suffix)? {
        Multiplier::Binary(bits) => numerator = numerator.checked_mul(1 << bits).unwrap_or(i128::MAX),
        Multiplier::Decimal(exponent) if exponent >= 0 => {
            numerator = 10i128.checked_pow(exponent as u32).and_then(|m| numerator.checked_mul(m)).unwrap_or(i128::MAX);
        }
        Multiplier::Decimal(exponent) => {
            denominator = denominator.checked_mul(10i128.checked_pow(-exponent as u32)?)?
        }
    }
    let magnitude = numerator / denominator + i128::from(!negative && numerator % denominator != 0);
    let signed = if negative { -magnitude } else { magnitude };
    Some(signed.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

enum Multiplier {
    Binary(u32),
    Decimal(i32),
}

fn multiplier(suffix: &str) -> Option<Multiplier> {
    Some(match suffix {
        "" => Multiplier::Decimal(0),
        "n" => Multiplier::Decimal(-9),
        "u" => Multiplier::Decimal(-6),
        "m" => Multiplier::Decimal(-3),
        "k" => Multiplier::Decimal(3),
        "M" => Multiplier::Decimal(6),
        "G" => Multiplier::Decimal(9),
        "T" => Multiplier::Decimal(12),
        "P" => Multiplier::Decimal(15),
        "E" => Multiplier::Decimal(18),
        "Ki" => Multiplier::Binary(10),
        "Mi" => Multiplier::Binary(20),
        "Gi" => Multiplier::Binary(30),
        "Ti" => Multiplier::Binary(40),
        "Pi" => Multiplier::Binary(50),
        "Ei" => Multiplier::Binary(60),
        _ => Multiplier::Decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() <= 30)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths_and_units() {
        for (text, in_milli, in_units) in [
            ("100m", 100, 1),
            ("1", 1000, 1),
            ("1.5", 1500, 2),
            ("2k", 2_000_000, 2000),
            ("1Ki", 1_024_000, 1024),
            ("0.5Gi", 536_870_912_000, 536_870_912),
            ("1e3", 1_000_000, 1000),
            ("100u", 1, 1),
            ("-1", -1000, -1),
            ("8Ei", i64::MAX, i64::MAX),
            ("nonsense", 0, 0),
        ] {
            let quantity = Quantity(text.to_owned());
            assert_eq!((milli(&quantity), value(&quantity)), (in_milli, in_units), "{text}");
        }
    }
}
