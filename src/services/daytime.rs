//! Daytime (RFC 867): the date and time, for people.

use super::say::say;
use crate::{Context, Handler};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io;

/// Sends one line, `Tue Nov 24 02:42:17 2026` and CR LF, and finishes. The format is that of
/// asctime(3), as inetd sends it, with the day of the month padded with a space.
#[derive(Clone, Debug)]
pub struct Daytime {
    zone: TimeZone,
}

impl Daytime {
    /// The time in the system's current time zone; in UTC if the zone is not known.
    pub fn local() -> Daytime {
        Daytime {
            zone: TimeZone::system(),
        }
    }

    /// The time in UTC.
    pub fn utc() -> Daytime {
        Daytime {
            zone: TimeZone::UTC,
        }
    }
}

impl Handler for Daytime {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        say(cx, line(Timestamp::now(), &self.zone).as_bytes())
    }

    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

fn line(now: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(now)
        .strftime("%a %b %e %H:%M:%S %Y\r\n")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_asctime_writes_it() {
        let at = |second| line(Timestamp::from_second(second).unwrap(), &TimeZone::UTC);
        assert_eq!(at(1_795_488_137), "Tue Nov 24 02:42:17 2026\r\n");
        assert_eq!(at(0), "Thu Jan  1 00:00:00 1970\r\n");
    }
}
