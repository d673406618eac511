//! The time zone of daytime, which follows the system's.

use doorkeeper::services::Daytime;
use jiff::tz::{self, TimeZone};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// How long a connection may be served in the zone that was read before.
const RECHECK: Duration = Duration::from_secs(60);

/// The system's time zone: the environment variable TZ, else /etc/localtime (tzset(3)).
pub(crate) struct SystemZone {
    zone: RefCell<TimeZone>,
    daytime: RefCell<Daytime>,
    read: Cell<Instant>,
}

impl SystemZone {
    /// Reads the zone, and logs which one it is.
    pub(crate) fn new() -> SystemZone {
        let zone = read();
        log::info!("the time zone is {}", name(&zone));
        SystemZone {
            zone: RefCell::new(zone),
            daytime: RefCell::new(Daytime::local()),
            read: Cell::new(Instant::now()),
        }
    }

    /// The service in this zone. It reads the zone again if that is a minute old.
    pub(crate) fn daytime(&self) -> Daytime {
        if self.read.get().elapsed() >= RECHECK {
            self.reload();
        }
        self.daytime.borrow().clone()
    }

    /// Reads the zone again, and logs it if it is another one.
    pub(crate) fn reload(&self) {
        // The zone and the database of zones are cached for five minutes.
        tz::reset_system_time_zone_cache();
        tz::db().reset();
        let zone = read();
        self.read.set(Instant::now());
        if *self.zone.borrow() != zone {
            log::info!("the time zone is now {}", name(&zone));
            self.daytime.replace(Daytime::local());
            self.zone.replace(zone);
        }
    }
}

/// The system's zone; UTC, with a warning, if there is none.
fn read() -> TimeZone {
    TimeZone::try_system().unwrap_or_else(|error| {
        let source = match std::env::var_os("TZ") {
            Some(value) => format!("TZ={}", value.to_string_lossy()),
            None => "/etc/localtime".to_string(),
        };
        log::warn!("{source} names no time zone, so daytime uses UTC: {error}");
        TimeZone::UTC
    })
}

fn name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_string(),
        // A rule in TZ, or a file without a name: the offset says enough.
        None => format!(
            "without a name, UTC{}",
            zone.to_offset(jiff::Timestamp::now())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{RECHECK, SystemZone};
    use std::time::Instant;

    #[test]
    fn a_zone_that_is_a_minute_old_is_read_again() {
        let zone = SystemZone::new();
        let first = zone.read.get();
        zone.daytime();
        assert_eq!(zone.read.get(), first);
        let Some(old) = Instant::now().checked_sub(RECHECK) else {
            // The machine is younger than a minute.
            return;
        };
        zone.read.set(old);
        zone.daytime();
        assert!(zone.read.get() > old);
    }
}
