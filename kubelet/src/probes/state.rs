//! From single outcomes to a verdict: thresholds of successes and failures in a row. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// A probe's times and thresholds with the API's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub successes: u32,
    pub failures: u32,
}

impl Timing {
    pub fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(u64::from(number(value, default)));
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: number(probe.success_threshold, 1),
            failures: number(probe.failure_threshold, 3),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Bad,
}

/// Counts outcomes in a row.
#[derive(Clone, Debug)]
pub struct Machine {
    successes: u32,
    failures: u32,
    row: (bool, u32),
    verdict: Option<Verdict>,
}

impl Machine {
    pub fn new(timing: &Timing) -> Self {
        Self { successes: timing.successes, failures: timing.failures, row: (true, 0), verdict: None }
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// The verdict, when this outcome changes it.
    pub fn step(&mut self, success: bool) -> Option<Verdict> {
        self.row = if self.row.0 == success { (success, self.row.1 + 1) } else { (success, 1) };
        let needed = if success { self.successes } else { self.failures };
        if self.row.1 < needed {
            return None;
        }
        let verdict = if success { Verdict::Good } else { Verdict::Bad };
        let changed = self.verdict != Some(verdict);
        self.verdict = Some(verdict);
        changed.then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_their_number_in_a_row() {
        for (successes, failures, outcomes, expected) in [
            (1, 3, "+", "+"),
            (1, 3, "---", "  -"),
            (1, 3, "+--+---", "+     -"),
            (2, 1, "+-++", " - +"),
            (1, 1, "+-+-", "+-+-"),
            (1, 3, "----", "  - "),
        ] {
            let probe =
                Probe { success_threshold: Some(successes), failure_threshold: Some(failures), ..Default::default() };
            let mut machine = Machine::new(&Timing::of(&probe));
            let told: String = outcomes
                .chars()
                .map(|outcome| match machine.step(outcome == '+') {
                    Some(Verdict::Good) => '+',
                    Some(Verdict::Bad) => '-',
                    None => ' ',
                })
                .collect();
            assert_eq!(told, expected, "{outcomes}");
        }
    }
}
