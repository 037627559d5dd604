//! When refused clients are told to come back: later, the more of them there are.

use std::collections::VecDeque;

/// The longest that clients are told to wait, in seconds.
const LONGEST: u64 = 32;

/// Refusals of one level by second, and what follows from them. It doubles as TCP's windows are halved, and falls step by step.
#[derive(Debug)]
pub struct RetryAfter {
    /// Seconds and how many were refused in them, the latest last.
    refused: VecDeque<(u64, u64)>,
    seconds: u64,
    raised: u64,
}

impl Default for RetryAfter {
    fn default() -> Self {
        RetryAfter { refused: VecDeque::new(), seconds: 1, raised: 0 }
    }
}

impl RetryAfter {
    /// Counts a refusal in the second `now`, and says when to come back.
    pub fn refuse(&mut self, now: u64) -> u64 {
        match self.refused.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => {
                self.adjust(now);
                self.refused.push_back((now, 1));
                while self.refused.front().is_some_and(|(second, _)| now.saturating_sub(*second) > LONGEST) {
                    self.refused.pop_front();
                }
            }
        }
        self.seconds
    }

    /// By what was refused in as many seconds as clients were told to wait.
    fn adjust(&mut self, now: u64) {
        let recent = self.refused.iter().filter(|(second, _)| now.saturating_sub(*second) <= self.seconds);
        let refused: u64 = recent.map(|(_, count)| count).sum();
        if now.saturating_sub(self.raised) >= self.seconds && refused >= 3 * self.seconds {
            self.seconds = (2 * self.seconds).min(LONGEST);
            self.raised = now;
        } else if refused < self.seconds && self.seconds > 1 {
            self.seconds -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wait_longer_while_many_are_refused_and_shorter_after() {
        let mut retry = RetryAfter::default();
        assert_eq!(retry.refuse(100), 1);
        for _ in 0..10 {
            retry.refuse(100);
        }
        assert_eq!(retry.refuse(101), 2);
        for second in 101..200 {
            for _ in 0..100 {
                retry.refuse(second);
            }
        }
        assert_eq!(retry.refuse(200), LONGEST);
        assert_eq!(retry.refuse(300), LONGEST - 1);
        assert_eq!(retry.refuse(400), LONGEST - 2);
    }
}
