//! `doorkeeper serve`.

mod access;
mod activation;
pub(crate) mod args;
mod control;
pub(crate) mod description;
mod limits;
mod listeners;
mod notify;
pub(crate) mod proxied;
mod proxy_header;
#[cfg(target_os = "linux")]
mod sharing;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod zone;

use super::{Failure, descriptors, logging, observe, output, timer};
use activation::Origin;
use args::Serve;
use control::Control;
use doorkeeper::{Reactor, Reason};
use listeners::{Sources, listen_all};
use notify::{Manager, watchdog_interval};
use status::Status;
use std::rc::Rc;
use std::time::Duration;

/// How often STATUS is sent to the service manager, if it has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(mut options: Serve) -> Result<(), Failure> {
    let inherited = descriptors::open();
    logging::start(options.log);
    // First of all, before a descriptor of the program's own has the number of one that is missing.
    let origins = activation::take(&options.listeners)?;
    let sources = Sources::read(&options)?;
    // Passed ones are among the inherited.
    let is_new = |(_, origin): &&(_, Origin)| matches!(origin, Origin::Address(_));
    let opened = origins.iter().filter(is_new).count();
    let status_sockets = options.status.as_ref().map_or(0, Status::descriptors);
    limit_connections(&mut options, inherited + opened + status_sockets);
    let mut reactor = Reactor::new(options.config.clone()).map_err(Failure::start)?;
    let max_connections = options.config.max_connections;
    limits::set(&reactor, max_connections, &options);
    let status = options.status.as_ref();
    let status = status.map(|place| Status::new(place, &options));
    let observer = status.as_ref().map(|status| status.observer());
    let mut observers = options.observation.start(&mut reactor, observer)?;
    let status = status.as_ref();
    let mut listening = listen_all(&mut reactor, origins, &options, &sources, status)?;
    let manager = Manager::from_environment().map(Rc::new);
    Control::new(
        &options,
        sources,
        &listening,
        manager.clone(),
        status.cloned(),
    )
    .watch(&mut reactor)
    .map_err(|error| Failure::failed(format_args!("cannot watch for signals: {error}")))?;
    watch_manager(&mut reactor, manager.clone())?;
    if let (Some(status), Some(place)) = (status, &options.status) {
        listening.announcement += &status.listen_all(&mut reactor, place)?;
    }
    announce(&listening.announcement)?;
    if let Some(manager) = &manager {
        manager.send("READY=1");
    }
    observe::run(&mut reactor, &mut observers, &listening.ids, None)?;
    let totals = totals(&reactor);
    limits::with_limits(|limits| {
        limits.report_turned_away();
        limits.report_slow();
    });
    // The last line, after what the observers say of connections that are cut off.
    drop(reactor);
    log::info!("stopped: {totals}");
    Ok(())
}

/// Sends WATCHDOG and STATUS to the service manager from a timer of the loop, so a loop that does
/// not turn sends none.
fn watch_manager(reactor: &mut Reactor, manager: Option<Rc<Manager>>) -> Result<(), Failure> {
    let Some(manager) = manager else {
        return Ok(());
    };
    let watchdog = watchdog_interval();
    let interval = watchdog.map_or(STATUS_INTERVAL, |watchdog| watchdog.min(STATUS_INTERVAL));
    let mut last = String::new();
    let on_tick = move |reactor: &mut Reactor| {
        if watchdog.is_some() {
            manager.send("WATCHDOG=1");
        }
        let status = status(reactor);
        if status != last {
            manager.send(&format!("STATUS={status}"));
            last = status;
        }
    };
    timer::every(reactor, interval, on_tick)
        .map_err(|error| Failure::failed(format_args!("cannot start a timer: {error}")))
}

fn status(reactor: &Reactor) -> String {
    let snapshot = reactor.snapshot();
    let queues = snapshot.listeners.iter();
    let queues = queues.filter_map(|listener| listener.accept_queue);
    let waiting: u32 = queues.map(|queue| queue.depth).sum();
    format!("{} open, {waiting} waiting", snapshot.stats.open)
}

/// Prints where the listeners listen. A reader that does not read is no reason not to serve.
fn announce(announcement: &str) -> Result<(), Failure> {
    if !output::print_with_patience(announcement)? {
        log::warn!(
            "standard output is blocked: its reader does not read the addresses of the listeners"
        );
    }
    Ok(())
}

/// `taken`: how many descriptors are open, or will be those of listeners.
fn limit_connections(options: &mut Serve, taken: usize) {
    let files = descriptors::raise();
    let allowed = descriptors::connections(files, taken);
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

fn totals(reactor: &Reactor) -> String {
    let stats = reactor.stats();
    let (finished, open) = (stats.closed(Reason::Finished), stats.open);
    let queues = reactor.accept_queues();
    let left: u32 = queues.iter().map(|(_, queue)| queue.depth).sum();
    format!(
        "{} accepted, {} turned away, {finished} finished, {open} cut off, {left} left waiting; {} bytes received, {} sent; {} turns",
        stats.accepted, stats.turned_away, stats.bytes_received, stats.bytes_sent, stats.turns
    )
}
