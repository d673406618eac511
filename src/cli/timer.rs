//! A timer of the loop that is no connection's: timerfd_create(2) as a watched source. Linux only.

use doorkeeper::Reactor;
use std::io;
use std::time::Duration;

/// Calls `on_tick` in this interval, as long as the loop turns.
#[cfg(target_os = "linux")]
pub(super) fn every(
    reactor: &mut Reactor,
    interval: Duration,
    mut on_tick: impl FnMut(&mut Reactor) + 'static,
) -> io::Result<()> {
    use doorkeeper::mio::Interest;
    use doorkeeper::{Id, Next};
    let on_ready = move |reactor: &mut Reactor, _: Id, timer: &mut linux::Timer| {
        // Several intervals that have passed are one tick.
        if timer.take() {
            on_tick(reactor);
            return Next::Again;
        }
        Next::Wait
    };
    let timer = linux::Timer::new(interval)?;
    reactor.watch(timer, Interest::READABLE, on_ready).map(drop)
}

/// There is no such timer.
#[cfg(not(target_os = "linux"))]
pub(super) fn every(
    _: &mut Reactor,
    _: Duration,
    _: impl FnMut(&mut Reactor) + 'static,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
mod linux {
    use doorkeeper::mio::event::Source;
    use doorkeeper::mio::unix::SourceFd;
    use doorkeeper::mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    pub(super) struct Timer(OwnedFd);

    impl Timer {
        pub(super) fn new(interval: Duration) -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let interval = Timespec::try_from(interval).map_err(io::Error::other)?;
            let times = Itimerspec {
                it_interval: interval,
                it_value: interval,
            };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
            Ok(Timer(timer))
        }

        /// Whether an interval has passed since the last call.
        pub(super) fn take(&mut self) -> bool {
            rustix::io::read(&self.0, &mut [0; 8]).is_ok()
        }
    }

    impl Source for Timer {
        fn register(
            &mut self,
            registry: &Registry,
            token: Token,
            interest: Interest,
        ) -> io::Result<()> {
            SourceFd(&self.0.as_raw_fd()).register(registry, token, interest)
        }

        fn reregister(
            &mut self,
            registry: &Registry,
            token: Token,
            interest: Interest,
        ) -> io::Result<()> {
            SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interest)
        }

        fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
            SourceFd(&self.0.as_raw_fd()).deregister(registry)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Timer;
        use doorkeeper::mio::{Events, Interest, Poll, Token};
        use std::time::Duration;

        #[test]
        fn a_timer_tells_the_token_that_it_was_given_last() {
            let mut poll = Poll::new().unwrap();
            let mut events = Events::with_capacity(1);
            let mut timer = Timer::new(Duration::from_millis(1)).unwrap();
            let registry = poll.registry();
            registry
                .register(&mut timer, Token(1), Interest::READABLE)
                .unwrap();
            registry
                .reregister(&mut timer, Token(2), Interest::READABLE)
                .unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(20)))
                .unwrap();
            assert_eq!(events.iter().next().unwrap().token(), Token(2));
            assert!(timer.take());
        }
    }
}
