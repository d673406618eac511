//! `doorkeeper serve`.

mod access;
pub(crate) mod args;
mod control;
mod limits;
mod listeners;
mod table;
mod zone;

use super::{Failure, descriptors, logging, observe, output};
use args::Serve;
use control::Control;
use doorkeeper::{Reactor, Reason};
use listeners::{Sources, listen_all};

pub(crate) fn run(mut options: Serve) -> Result<(), Failure> {
    logging::start(options.log);
    let sources = Sources::read(&options)?;
    limit_connections(&mut options);
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let max_connections = options.config.max_connections;
    limits::set(&reactor, max_connections, options.max_per_source);
    let mut observers = options.observation.start(&mut reactor)?;
    let (announcement, listeners) = listen_all(&mut reactor, &options, &sources)?;
    Control::new(&options, sources)
        .watch(&mut reactor)
        .map_err(|error| Failure::failed(format_args!("cannot watch for signals: {error}")))?;
    announce(&announcement)?;
    observe::run(&mut reactor, &mut observers, &listeners, None)?;
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

fn log_totals(reactor: &Reactor) {
    let stats = reactor.stats();
    let (finished, open) = (stats.closed(Reason::Finished), stats.open);
    log::info!(
        "stopped: {} accepted, {} turned away, {finished} finished, {open} cut off; {} bytes received, {} sent; {} turns",
        stats.accepted,
        stats.turned_away,
        stats.bytes_received,
        stats.bytes_sent,
        stats.turns
    );
}
