//! The listeners of `serve`, and their services.

use super::super::Failure;
use super::super::ports::{self, Holder};
use super::access::{Access, Record};
use super::activation::{Origin, set_options};
use super::args::{Kind, Serve};
use super::limits::limited;
use super::proxied::{Proxies, proxied};
use super::status::Status;
use super::zone::SystemZone;
use doorkeeper::services::{Chargen, Daytime, Discard, Echo, Qotd, Quotes, Time};
use doorkeeper::{Arrival, Handler, Id, ListenOptions, Reactor};
use std::cell::RefCell;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// The default of --send-buffer for chargen.
const CHARGEN_SEND_BUFFER: usize = 256 * 1024;

/// What services take their answers from, and SIGHUP reads again.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) quotes: Rc<RefCell<Quotes>>,
    /// `None`: daytime is in UTC, or is not served.
    pub(super) zone: Option<Rc<SystemZone>>,
}

impl Sources {
    pub(super) fn read(options: &Serve) -> Result<Sources, Failure> {
        let mut kinds = options.listeners.iter().map(|listener| listener.0);
        let is_local = !options.utc && kinds.any(|kind| kind == Kind::Daytime);
        Ok(Sources {
            quotes: Rc::new(RefCell::new(read_quotes(options)?)),
            zone: is_local.then(|| Rc::new(SystemZone::new())),
        })
    }
}

fn read_quotes(options: &Serve) -> Result<Quotes, Failure> {
    let Some(path) = &options.quotes else {
        return Ok(Quotes::built_in());
    };
    let quotes = Quotes::read(path)
        .map_err(|error| Failure::failed(format_args!("--quotes {}: {error}", path.display())))?;
    log_quotes(path, &quotes);
    Ok(quotes)
}

pub(super) fn log_quotes(path: &Path, quotes: &Quotes) {
    let (count, path) = (quotes.count(), path.display());
    match quotes.skipped() {
        0 => log::info!("--quotes {path}: {count} quotes"),
        skipped => log::warn!(
            "--quotes {path}: {count} quotes; {skipped} more are skipped, because they are longer than 512 bytes (RFC 865)"
        ),
    }
}

/// The listeners, once they are open.
#[derive(Default)]
pub(super) struct Listening {
    /// The lines for standard output.
    pub(super) announcement: String,
    pub(super) ids: Vec<(Id, SocketAddr)>,
    pub(super) kinds: Vec<(SocketAddr, Kind)>,
}

/// Opens every listener. If one fails, the reactor is dropped with all of them.
pub(super) fn listen_all(
    reactor: &mut Reactor,
    origins: Vec<(Kind, Origin)>,
    serve: &Serve,
    sources: &Sources,
    status: Option<&Rc<Status>>,
) -> Result<Listening, Failure> {
    let mut listening = Listening::default();
    for (kind, origin) in origins {
        let address = match &origin {
            Origin::Address(address) => Some(*address),
            Origin::Passed(socket) => socket.local_addr().ok(),
        };
        let access = Access::new(kind, status.map(Rc::as_ref));
        let is_shared = serve.listen.reuse_port && matches!(origin, Origin::Address(_));
        let opening = Opening {
            reactor,
            origin,
            options: &listen_options(serve, kind),
            proxies: serve.proxies.as_ref(),
        };
        let opened = match &access {
            Some(access) => opening.service(kind, sources, Rc::clone(access)),
            None => opening.service(kind, sources, ()),
        };
        let bound = opened.and_then(|id| Ok((id, reactor.local_addr(id)?)));
        let (id, bound) =
            bound.map_err(|error| Failure::failed(cannot_listen(kind, address, &error)))?;
        if is_shared {
            share(reactor, id, bound, serve.takes_over);
        }
        // Writing to a String does not fail.
        let _ = writeln!(listening.announcement, "listening {} {bound}", kind.name());
        log::info!("{} on {bound} is listener {id}", kind.name());
        if let Some(access) = access {
            access.listener.get_or_init(|| bound);
            if let Some(tally) = &access.tally {
                tally.listens(id, bound);
            }
        }
        listening.ids.push((id, bound));
        listening.kinds.push((bound, kind));
    }
    Ok(listening)
}

/// chargen's send buffer is smaller than the kernel's limit, which a client that never reads fills
/// (tcp_wmem, 4 MiB).
fn listen_options(serve: &Serve, kind: Kind) -> ListenOptions {
    let mut options = serve.listen.clone();
    if kind == Kind::Chargen && options.send_buffer_bytes.is_none() {
        options.send_buffer_bytes = Some(CHARGEN_SEND_BUFFER);
    }
    options
}

/// A restart that cannot take over still works; it may lose some connections.
#[cfg(target_os = "linux")]
fn share(reactor: &Reactor, id: Id, address: SocketAddr, takes_over: bool) {
    if let Err(error) = super::sharing::share(reactor, id, address, takes_over) {
        log::warn!("{address}: cannot say which process gets new connections: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn share(_: &Reactor, _: Id, address: SocketAddr, takes_over: bool) {
    if takes_over {
        log::warn!("{address}: --take-over works on Linux only");
    }
}

/// A listener that is being opened.
struct Opening<'a> {
    reactor: &'a mut Reactor,
    origin: Origin,
    options: &'a ListenOptions,
    /// Of --proxy-from, with --proxy-protocol.
    proxies: Option<&'a Proxies>,
}

impl Opening<'_> {
    fn open<H: Handler>(
        self,
        make: impl Fn() -> H + 'static,
        record: impl Record,
    ) -> io::Result<Id> {
        match self.proxies.cloned() {
            Some(proxies) => self.listen(proxied(make, record, proxies)),
            None => self.listen(limited(make, record)),
        }
    }

    fn listen<H: Handler>(
        self,
        service: impl FnMut(&mut Arrival<'_>) -> Option<H> + 'static,
    ) -> io::Result<Id> {
        match self.origin {
            Origin::Address(address) => self.reactor.listen_with(address, self.options, service),
            Origin::Passed(socket) => {
                set_options(&socket, self.options)?;
                self.reactor.adopt_listener(socket, service)
            }
        }
    }

    fn service(self, kind: Kind, sources: &Sources, record: impl Record) -> io::Result<Id> {
        let Sources { quotes, zone } = sources.clone();
        match kind {
            Kind::Echo => self.open(|| Echo, record),
            Kind::Discard => self.open(|| Discard, record),
            Kind::Chargen => self.open(Chargen::default, record),
            Kind::Time => self.open(|| Time, record),
            Kind::Daytime => {
                let daytime = move || zone.as_ref().map_or(Daytime::utc(), |zone| zone.daytime());
                self.open(daytime, record)
            }
            Kind::Qotd => {
                let qotd = move || Qotd::new(quotes.borrow().clone());
                self.open(qotd, record)
            }
        }
    }
}

fn cannot_listen(kind: Kind, address: Option<SocketAddr>, error: &io::Error) -> String {
    let name = kind.name();
    let Some(address) = address else {
        return format!("cannot listen for {name} on a passed socket: {error}");
    };
    let port = address.port();
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
