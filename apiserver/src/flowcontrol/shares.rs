//! How the server's seats are divided among priority levels: by nominal shares, then by what levels want, within what each lends
//! and borrows (Kubernetes documentation, "API Priority and Fairness", seats and borrowing).

use serde_json::Value;

/// A target that is not smaller, so that fractions of it are defined.
const MIN_TARGET: f64 = 0.001;
/// Halvings of the interval in which the fair fraction is sought: beyond the precision of numbers.
const HALVINGS: usize = 128;

/// What a level's specification says of seats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    pub shares: f64,
    pub lendable_percent: f64,
    /// None: as much as there is.
    pub borrowing_limit_percent: Option<f64>,
}

impl Terms {
    pub fn of(spec: &Value) -> Self {
        let terms = if spec["type"] == "Exempt" { &spec["exempt"] } else { &spec["limited"] };
        Terms {
            shares: terms["nominalConcurrencyShares"].as_f64().unwrap_or(0.0),
            lendable_percent: terms["lendablePercent"].as_f64().unwrap_or(0.0),
            borrowing_limit_percent: terms["borrowingLimitPercent"].as_f64(),
        }
    }
}

/// The seats of a level: its own, how few it keeps, and how many it gets at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub nominal: u32,
    pub lower: u32,
    pub upper: u32,
}

impl Bounds {
    /// The part of a level in the server's seats, rounded up.
    pub fn of(terms: Terms, server: u32, sum_of_shares: f64) -> Self {
        let part = if sum_of_shares > 0.0 { f64::from(server) * terms.shares / sum_of_shares } else { 0.0 };
        let nominal = part.ceil();
        let lendable = (nominal * terms.lendable_percent / 100.0).round();
        let borrowed =
            terms.borrowing_limit_percent.map_or(f64::from(server), |percent| (nominal * percent / 100.0).round());
        Bounds { nominal: nominal as u32, lower: (nominal - lendable) as u32, upper: (nominal + borrowed) as u32 }
    }

    /// What a new level has until the demand is known.
    pub fn initial(&self) -> u32 {
        self.nominal - (self.nominal - self.lower) / 2
    }

    /// The widest that the work of one request is taken to be, so that no request is wider than its level.
    pub fn max_seats(&self, hand_size: u32) -> u32 {
        let share = (f64::from(self.nominal) * 0.15).ceil() as u32;
        share.min(self.nominal / hand_size.max(1)).max(1)
    }
}

/// What one level may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    pub lower: f64,
    pub upper: f64,
    pub target: f64,
}

impl Item {
    /// Of a level with these bounds that wanted `highest` seats at most in the last period, and `smoothed` over time. It gets
    /// back what it lent as far as it wanted it.
    pub fn of(bounds: Bounds, highest: f64, smoothed: f64) -> Self {
        let lower = f64::from(bounds.lower).max(f64::from(bounds.nominal).min(highest));
        Item { lower, upper: f64::from(bounds.upper), target: lower.max(smoothed) }
    }

    fn at(&self, fraction: f64) -> f64 {
        (fraction * self.target.max(MIN_TARGET)).max(self.lower).min(self.upper.max(self.lower))
    }
}

/// Divides `sum` so that each item gets the same fraction of its target, within its bounds: the fraction, and what each gets.
/// None where the bounds do not allow the sum.
pub fn divide(sum: f64, items: &[Item]) -> Option<(f64, Vec<f64>)> {
    let total = |fraction: f64| items.iter().map(|item| item.at(fraction)).sum::<f64>();
    let mut high = items.iter().map(|item| item.upper / item.target.max(MIN_TARGET)).fold(0.0, f64::max);
    if (total(0.0) - sum).round() > 0.0 || (sum - total(high)).round() > 0.0 {
        return None;
    }
    let mut low = 0.0;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if total(middle) < sum {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some((high, items.iter().map(|item| item.at(high)).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_level_has_its_part_of_the_seats_and_lends_and_borrows_percents_of_it() {
        let terms = Terms::of(&json!({"type": "Limited", "limited":
            {"nominalConcurrencyShares": 30, "lendablePercent": 33, "borrowingLimitPercent": 50}}));
        let bounds = Bounds::of(terms, 600, 245.0);
        assert_eq!(bounds, Bounds { nominal: 74, lower: 50, upper: 111 });
        assert_eq!((bounds.initial(), bounds.max_seats(8), bounds.max_seats(6)), (62, 9, 12));
        let terms = Terms::of(&json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0}}));
        assert_eq!(Bounds::of(terms, 600, 245.0), Bounds { nominal: 0, lower: 0, upper: 600 });
    }

    #[test]
    fn a_level_lends_what_it_does_not_want_and_has_it_back_when_it_does() {
        let bounds = Bounds { nominal: 100, lower: 50, upper: 200 };
        let idle = Item::of(bounds, 10.0, 10.0);
        let busy = Item::of(bounds, 400.0, 400.0);
        assert_eq!(divide(200.0, &[idle, busy]).expect("possible").1, [50.0, 150.0]);
        assert_eq!(divide(200.0, &[busy, busy]).expect("possible").1, [100.0, 100.0]);
    }

    #[test]
    fn what_the_bounds_do_not_allow_is_not_divided() {
        let item = Item { lower: 5.0, upper: 10.0, target: 7.0 };
        assert!(divide(4.0, &[item]).is_none() && divide(11.0, &[item]).is_none());
    }

    proptest! {
        #[test]
        fn all_seats_are_divided_within_the_bounds(
            levels in proptest::collection::vec((0.0..100.0, 0.0..100.0, 0.0..500.0), 1..10), at in 0.0..1.0,
        ) {
            let item = |(lower, more, target): (f64, f64, f64)| Item { lower, upper: lower + more, target };
            let items: Vec<Item> = levels.into_iter().map(item).collect();
            let [low, high] = [|i: &Item| i.lower, |i: &Item| i.upper].map(|bound| items.iter().map(bound).sum::<f64>());
            let sum = low + at * (high - low);
            let (_, parts) = divide(sum, &items).expect("the sum is between the bounds");
            prop_assert!((parts.iter().sum::<f64>() - sum).abs() < 1e-6 * sum.max(1.0));
            prop_assert!(parts.iter().zip(&items).all(|(part, item)| (item.lower..=item.upper).contains(part)));
        }
    }
}
