//! The figures of one listener's connections. They are kept with --status only.

use doorkeeper::{Closed, Id, Reason};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// The tally of each open connection, by its place in the list of all.
pub(super) type Owners = Rc<RefCell<HashMap<Id, usize>>>;

/// The counters of one listener. All connections have shared references to it.
#[derive(Debug)]
pub(in super::super) struct Tally {
    pub(super) service: &'static str,
    place: usize,
    owners: Owners,
    listener: OnceCell<(Id, SocketAddr)>,
    pub(super) accepted: Cell<u64>,
    pub(super) turned_away: Cell<u64>,
    pub(super) open: Cell<u64>,
    /// Of closed connections only, as are the bytes.
    closed: [Cell<u64>; Reason::ALL.len()],
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
}

fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

impl Tally {
    pub(super) fn new(service: &'static str, place: usize, owners: Owners) -> Tally {
        Tally {
            service,
            place,
            owners,
            listener: OnceCell::new(),
            accepted: Cell::default(),
            turned_away: Cell::default(),
            open: Cell::default(),
            closed: Default::default(),
            received: Cell::default(),
            sent: Cell::default(),
        }
    }

    /// The listener is open.
    pub(in super::super) fn listens(&self, id: Id, address: SocketAddr) {
        self.listener.get_or_init(|| (id, address));
    }

    pub(super) fn id(&self) -> Option<Id> {
        self.listener.get().map(|(id, _)| *id)
    }

    /// The address of the listener.
    pub(super) fn address(&self) -> String {
        let address = self.listener.get();
        address.map_or(String::new(), |(_, address)| address.to_string())
    }

    pub(in super::super) fn turned_away(&self) {
        add(&self.accepted, 1);
        add(&self.turned_away, 1);
    }

    /// An open connection is turned away. It also counts as closed.
    pub(in super::super) fn cut_off(&self) {
        add(&self.turned_away, 1);
    }

    pub(in super::super) fn accepted(&self, id: Id) {
        add(&self.accepted, 1);
        add(&self.open, 1);
        self.owners.borrow_mut().insert(id, self.place);
    }

    pub(in super::super) fn closed(&self, closed: &Closed) {
        self.owners.borrow_mut().remove(&closed.id);
        self.open.set(self.open.get() - 1);
        add(&self.closed[closed.reason as usize], 1);
        add(&self.received, closed.received);
        add(&self.sent, closed.sent);
    }

    pub(super) fn closed_for(&self, reason: Reason) -> u64 {
        self.closed[reason as usize].get()
    }
}
