//! Time (RFC 868): the seconds since 1900, in four bytes.

use super::say::say;
use crate::{Context, Handler};
use std::io;
use std::time::SystemTime;

/// Seconds from 1900-01-01 to 1970-01-01, both UTC: 70 years with 17 leap days.
const EPOCH_1900: u64 = (70 * 365 + 17) * 24 * 60 * 60;

/// Sends the number of seconds since 1900-01-01 00:00 UTC, as four bytes in network order, and
/// finishes.
///
/// The number has 32 bits. It overflows on 2036-02-07 at 06:28:16 UTC and begins again at 0: it is
/// the low 32 bits of the true count. The RFC does not define this. A client that knows that it is
/// past 2036 adds 2³², which is right until 2172.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time;

impl Handler for Time {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let now = SystemTime::now();
        // A clock set before 1970 is set wrong; it answers 1970.
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        say(cx, &seconds(since_1970.as_secs()))
    }

    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

fn seconds(since_1970: u64) -> [u8; 4] {
    ((since_1970 + EPOCH_1900) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    /// The examples of the RFC, and the overflow.
    #[test]
    fn the_examples_of_the_rfc_and_the_wrap_of_2036() {
        assert_eq!(u32::from_be_bytes(seconds(0)), 2_208_988_800);
        assert_eq!(
            u32::from_be_bytes(seconds(2_398_291_200 - 2_208_988_800)),
            2_398_291_200
        );
        assert_eq!(u32::from_be_bytes(seconds(2_085_978_495)), u32::MAX);
        assert_eq!(u32::from_be_bytes(seconds(2_085_978_496)), 0);
    }
}
