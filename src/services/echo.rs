//! Echo (RFC 862): every byte is sent back.

use crate::{Context, Handler, TimerKey};
use std::io;
use std::time::Duration;

/// Sends back every byte until the peer ends; the rest of the echo is still delivered then. It
/// consumes only as much as it can send back, so a peer that does not read its echo is not read
/// either. When the loop shuts down, it ends once the peer has sent nothing for half a second: a peer
/// that has just connected may not have sent its request yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// The time of a peer to send more during a shutdown.
const GRACE: Duration = Duration::from_millis(500);
const GRACE_IS_OVER: TimerKey = TimerKey(0);

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }

    /// All is consumed by then, and timers of a wrapper must not keep the connection open.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }

    fn on_drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if cx.is_shutting_down() {
            self.on_shutdown(cx)?;
        }
        Ok(())
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(GRACE_IS_OVER, GRACE);
        Ok(())
    }

    /// What is not consumed is sent back first, and a drain begins the time again.
    fn on_timer(&mut self, cx: &mut Context<'_>, _key: TimerKey) -> io::Result<()> {
        if cx.unread() == 0 {
            cx.finish();
        }
        Ok(())
    }
}
