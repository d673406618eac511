//! The signals of `serve`.

use super::super::signals;
use super::args::Serve;
use super::listeners::{Listening, Sources, log_quotes};
use super::notify::{Manager, reloading};
use super::status::Status;
use super::table::{self, Services};
use doorkeeper::Reactor;
use doorkeeper::services::Quotes;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::ffi::c_int;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// SIGUSR1 logs at most one table in this time.
const TABLE_INTERVAL: Duration = Duration::from_secs(1);

/// What signals change while the program serves.
pub(super) struct Control {
    patience: Duration,
    quotes_path: Option<PathBuf>,
    sources: Sources,
    manager: Option<Rc<Manager>>,
    status: Option<Rc<Status>>,
    is_shutting_down: bool,
    services: Services,
    /// When the last table was logged.
    table: Option<Instant>,
}

impl Control {
    pub(super) fn new(
        options: &Serve,
        sources: Sources,
        listening: &Listening,
        manager: Option<Rc<Manager>>,
        status: Option<Rc<Status>>,
    ) -> Control {
        Control {
            patience: options.shutdown_timeout,
            quotes_path: options.quotes.clone(),
            sources,
            manager,
            status,
            is_shutting_down: false,
            services: Services::new(&listening.kinds),
            table: None,
        }
    }

    pub(super) fn watch(self, reactor: &mut Reactor) -> io::Result<()> {
        let mut control = self;
        // Its default action would end the program. A flag's handler does not wake the loop.
        signal_hook::flag::register(SIGUSR2, Arc::default())?;
        signals::watch(
            reactor,
            &[SIGINT, SIGTERM, SIGHUP, SIGUSR1],
            move |reactor, signal, count| match signal {
                SIGHUP => control.reload(),
                SIGUSR1 => control.log_table(reactor),
                _ => (0..count).for_each(|_| control.end(reactor, signal)),
            },
        )
    }

    fn notify(&self, message: &str) {
        if let Some(manager) = &self.manager {
            manager.send(message);
        }
    }

    /// The first signal begins the shutdown, the second stops the loop.
    fn end(&mut self, reactor: &mut Reactor, signal: c_int) {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
        let patience = self.patience;
        if std::mem::replace(&mut self.is_shutting_down, true) {
            log::info!("{name} again: stopping at once");
            reactor.stop();
        } else {
            self.notify("STOPPING=1");
            log::info!("{name}: shutting down; open connections have {patience:?} to finish");
            reactor.shutdown(patience);
            if let Some(status) = &self.status {
                status.shut_down(reactor);
            }
        }
    }

    /// Reads again what is read at the start. If that fails, what was read before stays.
    fn reload(&self) {
        log::info!("SIGHUP: reading the quotes and the time zone again");
        self.notify(&reloading());
        self.read_again();
        self.notify("READY=1");
    }

    fn read_again(&self) {
        if let Some(zone) = &self.sources.zone {
            zone.reload();
        }
        if let Some(path) = &self.quotes_path {
            match Quotes::read(path) {
                Ok(quotes) => {
                    log_quotes(path, &quotes);
                    self.sources.quotes.replace(quotes);
                }
                Err(error) => log::error!(
                    "--quotes {}: {error}; the earlier quotes stay",
                    path.display()
                ),
            }
        }
    }

    fn log_table(&mut self, reactor: &Reactor) {
        let now = Instant::now();
        if self.table.is_none_or(|last| now - last >= TABLE_INTERVAL) {
            self.table = Some(now);
            table::log(reactor, &self.services);
        }
    }
}
