//! At most one log line a second.

use crate::time::Tick;
use std::fmt;
use std::time::Duration;

/// Passes one line a second and counts those it suppresses, because a log that grows as fast as the
/// trouble is more trouble.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    next: Tick,
    suppressed: u64,
}

/// How many lines were suppressed before this one.
pub(crate) struct More(u64);

impl Throttle {
    /// Whether to log now, and how many lines were suppressed since the last.
    #[cold]
    pub(crate) fn pass(&mut self, now: Tick) -> Option<More> {
        const INTERVAL: Duration = Duration::from_secs(1);
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now.after(INTERVAL);
        Some(More(std::mem::take(&mut self.suppressed)))
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more like it since the last)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_with_the_count_of_the_others() {
        let mut throttle = Throttle::default();
        let mut pass = |ms| {
            let more = throttle.pass(Tick::default().after(Duration::from_millis(ms)))?;
            let text = match more.0 {
                0 => String::new(),
                count => format!(" ({count} more like it since the last)"),
            };
            assert_eq!(more.to_string(), text);
            Some(more.0)
        };
        assert_eq!(pass(0), Some(0));
        for ms in 1..1000 {
            assert_eq!(pass(ms), None);
        }
        assert_eq!(pass(1000), Some(999));
        assert_eq!(pass(1999), None);
        assert_eq!(pass(5000), Some(1));
    }
}
