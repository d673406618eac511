//! `doorkeeper serve`.

use super::ports::{self, Holder};
use super::serve_args::{Kind, Serve};
use super::zone::SystemZone;
use super::{Failure, descriptors, logging, output, signals, table};
use doorkeeper::services::{Chargen, Daytime, Discard, Echo, Qotd, Quotes, Time};
use doorkeeper::{Id, ListenOptions, Reactor, Reason};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::cell::RefCell;
use std::ffi::c_int;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// SIGUSR1 logs at most one table in this time.
const TABLE_INTERVAL: Duration = Duration::from_secs(1);

/// What services take their answers from, and SIGHUP reads again.
#[derive(Clone)]
struct Sources {
    quotes: Rc<RefCell<Quotes>>,
    /// `None`: daytime is in UTC, or is not served.
    zone: Option<Rc<SystemZone>>,
}

impl Sources {
    fn read(options: &Serve) -> Result<Sources, Failure> {
        let mut kinds = options.listeners.iter().map(|listener| listener.0);
        let is_local = !options.utc && kinds.any(|kind| kind == Kind::Daytime);
        Ok(Sources {
            quotes: Rc::new(RefCell::new(read_quotes(options)?)),
            zone: is_local.then(|| Rc::new(SystemZone::new())),
        })
    }
}

pub(crate) fn run(mut options: Serve) -> Result<(), Failure> {
    logging::start();
    let sources = Sources::read(&options)?;
    limit_connections(&mut options);
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let mut observers = options.observation.start(&mut reactor)?;
    let (announcement, listeners) = listen_all(&mut reactor, &options, &sources)?;
    let control = Control {
        patience: options.shutdown_timeout,
        quotes_path: options.quotes,
        sources,
        is_shutting_down: false,
        table: None,
    };
    control
        .watch(&mut reactor)
        .map_err(|error| Failure::failed(format_args!("cannot watch for signals: {error}")))?;
    announce(&announcement)?;
    let ran = match &mut observers {
        Some(observers) => observers.run(&mut reactor, &listeners),
        None => reactor.run(),
    };
    ran.map_err(Failure::poller)?;
    log_totals(&reactor);
    Ok(())
}

/// Prints where the listeners listen. A reader that does not read is no reason not to serve.
fn announce(announcement: &str) -> Result<(), Failure> {
    if !output::print_with_patience(announcement)? {
        log::warn!("standard output is blocked: nobody reads the addresses of the listeners");
    }
    Ok(())
}

fn read_quotes(options: &Serve) -> Result<Quotes, Failure> {
    let Some(path) = &options.quotes else {
        return Ok(Quotes::built_in());
    };
    Quotes::read(path)
        .map_err(|error| Failure::failed(format_args!("--quotes {}: {error}", path.display())))
}

fn limit_connections(options: &mut Serve) {
    let files = descriptors::raise();
    let allowed = descriptors::connections(files, options.listeners.len());
    let limit = options.max_connections.unwrap_or(allowed);
    let files = files.map_or("no limit on".to_string(), |files| files.to_string());
    log::info!("{files} open files allow {allowed} connections; the limit is {limit}");
    if limit > allowed {
        log::warn!(
            "--max-connections {limit} is more than the limit on open files allows, {allowed} (see ulimit -Hn)"
        );
    }
    options.config.max_connections = limit;
}

/// The lines for standard output, and the listeners with their addresses.
type Listening = (String, Vec<(Id, SocketAddr)>);

/// Opens every listener. If one fails, the reactor is dropped with all of them.
fn listen_all(
    reactor: &mut Reactor,
    options: &Serve,
    sources: &Sources,
) -> Result<Listening, Failure> {
    let (mut announcement, mut listeners) = (String::new(), Vec::new());
    for &(kind, address) in &options.listeners {
        let bound = listen(reactor, kind, address, &options.listen, sources)
            .and_then(|id| Ok((id, reactor.local_addr(id)?)));
        let (id, bound) =
            bound.map_err(|error| Failure::failed(cannot_listen(kind, address, &error)))?;
        // Writing to a String does not fail.
        let _ = writeln!(announcement, "listening {} {bound}", kind.name());
        listeners.push((id, bound));
    }
    Ok((announcement, listeners))
}

fn listen(
    reactor: &mut Reactor,
    kind: Kind,
    address: SocketAddr,
    options: &ListenOptions,
    sources: &Sources,
) -> io::Result<Id> {
    let Sources { quotes, zone } = sources.clone();
    match kind {
        Kind::Echo => reactor.listen_with(address, options, |_| Some(Echo)),
        Kind::Discard => reactor.listen_with(address, options, |_| Some(Discard)),
        Kind::Chargen => reactor.listen_with(address, options, |_| Some(Chargen::default())),
        Kind::Time => reactor.listen_with(address, options, |_| Some(Time)),
        Kind::Daytime => {
            let daytime = move || zone.as_ref().map_or(Daytime::utc(), |zone| zone.daytime());
            reactor.listen_with(address, options, move |_| Some(daytime()))
        }
        Kind::Qotd => {
            let qotd = move || Qotd::new(quotes.borrow().clone());
            reactor.listen_with(address, options, move |_| Some(qotd()))
        }
    }
}

fn cannot_listen(kind: Kind, address: SocketAddr, error: &io::Error) -> String {
    let (name, port) = (kind.name(), address.port());
    let advice = match error.kind() {
        ErrorKind::AddrInUse => in_use(port),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `ip address` lists the addresses it has".to_string()
        }
        ErrorKind::PermissionDenied => {
            format!(
                "port {port} needs the capability CAP_NET_BIND_SERVICE; grant it, or choose a port from 1024 on"
            )
        }
        _ => "is it an address of this machine?".to_string(),
    };
    format!("cannot listen for {name} on {address}: {error}: {advice}")
}

fn in_use(port: u16) -> String {
    match ports::holder(port) {
        Holder::Listener => format!(
            "another socket listens on port {port} (`ss -ltnp sport = :{port}` shows it); stop it, or choose another port"
        ),
        // Linux holds TIME_WAIT for 60 s (TCP_TIMEWAIT_LEN).
        Holder::TimeWait => format!(
            "only closed connections in TIME_WAIT hold port {port}, because the earlier server did not set SO_REUSEADDR; wait a minute, or choose another port"
        ),
        Holder::Other => format!(
            "another socket has port {port} (`ss -tanp sport = :{port}` shows it); choose another port"
        ),
    }
}

/// What signals change while the program serves.
struct Control {
    patience: Duration,
    quotes_path: Option<PathBuf>,
    sources: Sources,
    is_shutting_down: bool,
    /// When the last table was logged.
    table: Option<Instant>,
}

impl Control {
    fn watch(self, reactor: &mut Reactor) -> io::Result<()> {
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

    /// The first signal begins the shutdown, the second stops the loop.
    fn end(&mut self, reactor: &mut Reactor, signal: c_int) {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
        let patience = self.patience;
        if std::mem::replace(&mut self.is_shutting_down, true) {
            log::info!("{name} again: stopping at once");
            reactor.stop();
        } else {
            log::info!("{name}: shutting down; open connections have {patience:?} to finish");
            reactor.shutdown(patience);
        }
    }

    /// Reads again what is read at the start. If that fails, what was read before stays.
    fn reload(&self) {
        log::info!("SIGHUP: reading the quotes and the time zone again");
        if let Some(zone) = &self.sources.zone {
            zone.reload();
        }
        if let Some(path) = &self.quotes_path {
            match Quotes::read(path) {
                Ok(quotes) => drop(self.sources.quotes.replace(quotes)),
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
            table::log(&reactor.snapshot());
        }
    }
}

fn log_totals(reactor: &Reactor) {
    let stats = reactor.stats();
    let (finished, open) = (stats.closed(Reason::Finished), stats.open);
    log::info!(
        "stopped: {} accepted, {finished} finished, {open} cut off; {} bytes received, {} sent; {} turns",
        stats.accepted,
        stats.bytes_received,
        stats.bytes_sent,
        stats.turns
    );
}
