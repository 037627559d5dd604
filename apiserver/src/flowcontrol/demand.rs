//! How many seats a priority level wants: observed over a period, then smoothed over periods (KEP-1040, "Dispatching").

use std::time::Duration;

/// How much of the smoothed demand is left after one period without demand: half of it after five minutes of ten-second periods.
const SMOOTHING: f64 = 0.977;

/// Integrates a number that changes at known times.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    since: Duration,
    last: Duration,
    value: f64,
    area: f64,
    area_of_squares: f64,
    highest: f64,
}

impl Observation {
    /// The number is `value` from `now` on.
    pub fn set(&mut self, now: Duration, value: f64) {
        self.integrate(now);
        self.value = value;
        self.highest = self.highest.max(value);
    }

    fn integrate(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.last).as_secs_f64();
        self.area += elapsed * self.value;
        self.area_of_squares += elapsed * self.value * self.value;
        self.last = self.last.max(now);
    }

    /// Ends the period, and begins the next with the number that is.
    pub fn take(&mut self, now: Duration) -> Period {
        self.integrate(now);
        let length = self.last.saturating_sub(self.since).as_secs_f64();
        let (average, deviation) = if length > 0.0 {
            let average = self.area / length;
            (average, (self.area_of_squares / length - average * average).max(0.0).sqrt())
        } else {
            (self.value, 0.0)
        };
        let period = Period { average, deviation, highest: self.highest };
        *self = Observation {
            since: self.last,
            last: self.last,
            value: self.value,
            highest: self.value,
            ..Self::default()
        };
        period
    }
}

/// What was observed in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Period {
    pub average: f64,
    pub deviation: f64,
    pub highest: f64,
}

/// The demand of the last period, and of those before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    pub period: Period,
    pub smoothed: f64,
}

impl Demand {
    /// Follows a rise at once, and a fall slowly.
    pub fn update(&mut self, period: Period) {
        let envelope = period.average + period.deviation;
        self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
        self.period = period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_period_has_the_mean_the_deviation_and_the_peak_of_its_time() {
        let mut observation = Observation::default();
        observation.set(seconds(5), 4.0);
        assert_eq!(observation.take(seconds(10)), Period { average: 2.0, deviation: 2.0, highest: 4.0 });
        assert_eq!(observation.take(seconds(20)), Period { average: 4.0, deviation: 0.0, highest: 4.0 });
        assert_eq!(observation.take(seconds(20)).average, 4.0);
    }

    #[test]
    fn demand_rises_at_once_and_falls_by_half_in_five_minutes() {
        let mut demand = Demand::default();
        demand.update(Period { average: 80.0, deviation: 20.0, highest: 200.0 });
        assert_eq!(demand.smoothed, 100.0);
        for _ in 0..30 {
            demand.update(Period::default());
        }
        assert!((45.0..55.0).contains(&demand.smoothed), "{}", demand.smoothed);
    }
}
