//! What only a long run would reach.

mod weight;

use super::Sim;
use crate::{Arrival, Closed, Config, Context, Handler, Id, Others};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// Echoes, and keeps the ids of connections that closed.
struct Echo(Rc<RefCell<Vec<Id>>>);

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(cx.write(input))
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        self.0.borrow_mut().push(closed.id);
    }
}

/// After 2³² sources the serial numbers begin again. No id of a closed connection names a later one.
#[test]
fn serial_numbers_wrap() {
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let server = sim.reactor(Config::default()).unwrap();
        let address = "10.0.0.1:7".parse().unwrap();
        let closed = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&closed);
        let service = move |_: &mut Arrival<'_>| Some(Echo(Rc::clone(&seen)));
        server.borrow_mut().listen(address, service).unwrap();
        server.borrow_mut().set_next_serial(u32::MAX - 10);
        for _ in 0..8 {
            let peers = [(); 3].map(|()| sim.connect(address));
            for peer in &peers {
                peer.send(b"hello");
                sim.run_until(|| peer.received() == b"hello");
            }
            for &id in closed.borrow().iter() {
                assert!(!server.borrow_mut().wake(id), "{id} is closed");
                assert_eq!(server.borrow_mut().send(id, b"late"), 0);
            }
            peers.iter().for_each(|peer| peer.close());
            sim.run_to_rest();
            assert!(peers.iter().all(|peer| peer.received() == b"hello"));
        }
        let serials: Vec<u32> = closed.borrow().iter().map(|id| id.serial()).collect();
        assert!(
            serials.contains(&u32::MAX) && serials.contains(&0),
            "{serials:?}"
        );
    }
}
