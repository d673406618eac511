//! `doorkeeper serve`.

use super::serve_args::{Kind, Serve};
use super::{Failure, descriptors, logging, print, signals, table};
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
    let mut reactor = Reactor::new(options.config.clone())
        .map_err(|error| Failure::failed(format_args!("cannot start the loop: {error}")))?;
    let mut watchers = options.watching.start(&mut reactor)?;
    let (announcement, listeners) = listen_all(&mut reactor, &options, &quotes)?;
    await_signals(&mut reactor, options.shutdown_timeout)
        .map_err(|error| Failure::failed(format_args!("cannot wait for signals: {error}")))?;
    print(&announcement)?;
    let ran = match &mut watchers {
        Some(watchers) => watchers.run(&mut reactor, &listeners),
        None => reactor.run(),
    };
    ran.map_err(|error| Failure::failed(format_args!("the poller failed: {error}")))?;
    say_goodbye(&reactor);
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
    let limit = descriptors::raise();
    let allowed = descriptors::connections(limit, options.listeners.len());
    let most = options.max_connections.unwrap_or(allowed);
    let limit = limit.map_or("no limit on".to_string(), |limit| format!("{limit}"));
    log::info!("{limit} open files allow {allowed} connections; at most {most} are let in");
    if most > allowed {
        log::warn!(
            "--max-connections {most} is more than the limit on open files allows, {allowed} (see ulimit -Hn)"
        );
    }
    options.config.max_connections = most;
}

/// What to say of the listeners, and which they are.
type Announced = (String, Vec<(Id, SocketAddr)>);

/// Binds every listener, or fails with none left, and says where each one listens.
fn listen_all(
    reactor: &mut Reactor,
    options: &Serve,
    quotes: &Quotes,
) -> Result<Announced, Failure> {
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
        ErrorKind::AddrInUse => {
            format!("another socket has port {port}; stop it, or choose another port")
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `ip address` lists those it has".to_string()
        }
        ErrorKind::PermissionDenied => {
            format!(
                "port {port} needs the right CAP_NET_BIND_SERVICE; choose one from 1024 on, or grant it"
            )
        }
        _ => "is the address meant for this machine?".to_string(),
    };
    format!("cannot listen for {name} on {address}: {error}: {advice}")
}

/// The first signal begins to shut down, the second ends it.
fn await_signals(reactor: &mut Reactor, patience: Duration) -> io::Result<()> {
    let mut draining = false;
    signals::watch(
        reactor,
        &[SIGINT, SIGTERM, SIGUSR1],
        move |reactor, signal| {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
            if signal == SIGUSR1 {
                table::log(&reactor.snapshot());
            } else if std::mem::replace(&mut draining, true) {
                log::info!("{name} again: ending at once");
                reactor.stop();
            } else {
                log::info!(
                    "{name}: no more are let in; open connections have {patience:?} to finish"
                );
                reactor.shutdown(patience);
            }
        },
    )
}

fn say_goodbye(reactor: &Reactor) {
    let stats = reactor.stats();
    let (finished, open) = (stats.closed(Reason::Finished), stats.open);
    log::info!(
        "done: {} accepted, {finished} finished, {open} cut off; {} bytes received, {} sent; {} turns",
        stats.accepted,
        stats.bytes_received,
        stats.bytes_sent,
        stats.turns
    );
}
