//! `doorkeeper serve`.

use super::ports::{self, Holder};
use super::serve_args::{Kind, Serve};
use super::{Failure, descriptors, logging, output, signals, table};
use doorkeeper::services::{Chargen, Daytime, Discard, Echo, Qotd, Quotes, Time};
use doorkeeper::{Id, Reactor, Reason};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) fn run(mut options: Serve) -> Result<(), Failure> {
    logging::start();
    let quotes = read_quotes(&options)?;
    limit_connections(&mut options);
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let mut observers = options.observation.start(&mut reactor)?;
    let (announcement, listeners) = listen_all(&mut reactor, &options, &quotes)?;
    watch_signals(&mut reactor, options.shutdown_timeout)
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
    quotes: &Quotes,
) -> Result<Listening, Failure> {
    let (mut announcement, mut listeners) = (String::new(), Vec::new());
    for &(kind, address) in &options.listeners {
        let bound = listen(reactor, kind, address, options, quotes)
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
    options: &Serve,
    quotes: &Quotes,
) -> io::Result<Id> {
    let listen = &options.listen;
    match kind {
        Kind::Echo => reactor.listen_with(address, listen, |_| Some(Echo)),
        Kind::Discard => reactor.listen_with(address, listen, |_| Some(Discard)),
        Kind::Chargen => reactor.listen_with(address, listen, |_| Some(Chargen::default())),
        Kind::Time => reactor.listen_with(address, listen, |_| Some(Time)),
        Kind::Daytime => {
            let daytime = if options.utc {
                Daytime::utc()
            } else {
                Daytime::local()
            };
            reactor.listen_with(address, listen, move |_| Some(daytime.clone()))
        }
        Kind::Qotd => {
            let qotd = Qotd::new(quotes.clone());
            reactor.listen_with(address, listen, move |_| Some(qotd.clone()))
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

/// The first SIGINT or SIGTERM begins the shutdown, the second stops the loop.
fn watch_signals(reactor: &mut Reactor, patience: Duration) -> io::Result<()> {
    let mut is_shutting_down = false;
    signals::watch(
        reactor,
        &[SIGINT, SIGTERM, SIGUSR1],
        move |reactor, signal| {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
            if signal == SIGUSR1 {
                table::log(&reactor.snapshot());
            } else if std::mem::replace(&mut is_shutting_down, true) {
                log::info!("{name} again: stopping at once");
                reactor.stop();
            } else {
                log::info!("{name}: shutting down; open connections have {patience:?} to finish");
                reactor.shutdown(patience);
            }
        },
    )
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
