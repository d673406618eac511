//! At most one log line a second for each kind of trouble.

use crate::timers::Tick;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one line through a second and counts those it holds back: trouble comes in storms, and a log that grows with the
/// storm is a second trouble.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    next: Tick,
    suppressed: u64,
}

impl Throttle {
    /// Whether to log now; if so, how many lines were held back since the last.
    #[cold]
    pub(crate) fn pass(&mut self, now: Tick) -> Option<u64> {
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now.after(INTERVAL);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_the_count_of_the_rest() {
        let mut throttle = Throttle::default();
        let ms = |ms| Tick::default().after(Duration::from_millis(ms));
        assert_eq!(throttle.pass(ms(0)), Some(0));
        for at in 1..1000 {
            assert_eq!(throttle.pass(ms(at)), None);
        }
        assert_eq!(throttle.pass(ms(1000)), Some(999));
        assert_eq!(throttle.pass(ms(1999)), None);
        assert_eq!(throttle.pass(ms(5000)), Some(1));
    }
}
