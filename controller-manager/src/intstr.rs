//! Counts that are given as numbers or percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage that gives no whole number is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Up.
    Up,
    /// Down.
    Down,
}

/// The count that a value means, of a total. Text that is no percentage counts as 0 (the API server refuses it).
pub fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok()).unwrap_or(0);
            let product = percent * i64::from(total);
            let count = match round {
                Round::Up => (product + 99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(count).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        for (value, total, up, down) in [("25%", 10, 3, 2), ("25%", 4, 1, 1), ("0%", 7, 0, 0), ("100%", 3, 3, 3)] {
            let value = IntOrString::String(value.into());
            assert_eq!((scaled(&value, total, Round::Up), scaled(&value, total, Round::Down)), (up, down));
        }
        assert_eq!(scaled(&IntOrString::Int(5), 3, Round::Up), 5);
    }
}
