//! What a handler wants: when its input is offered, and where it is kept until then.

mod common;

use common::{NOW, client, listen, reactor, read_all, turn_until};
use doorkeeper::{Context, Handler};
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::Shutdown;
use std::rc::Rc;

type Offers = Rc<RefCell<Vec<usize>>>;

/// Consumes messages of ten bytes, and wants one as a whole.
struct Tens(Offers);

impl Handler for Tens {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().push(input.len());
        cx.want(10)?;
        Ok(input.len() / 10 * 10)
    }
}

/// The client's parts, each after the one before was received. Returns how long the offers were.
fn offers(parts: &[usize], ends: bool) -> Vec<usize> {
    let (mut reactor, offers) = (reactor(), Offers::default());
    let noted = Rc::clone(&offers);
    let address = listen(&mut reactor, move |_| Some(Tens(Rc::clone(&noted))));
    let mut stream = client(address);
    stream.set_nodelay(true).unwrap();
    let mut total = 0;
    for &part in parts {
        stream.write_all(&vec![b'x'; part]).unwrap();
        total += part as u64;
        turn_until(&mut reactor, |reactor| {
            reactor.stats().bytes_received == total
        });
    }
    if ends {
        stream.shutdown(Shutdown::Write).unwrap();
        turn_until(&mut reactor, |reactor| reactor.stats().open == 0);
        read_all(&mut stream).unwrap();
    }
    for _ in 0..3 {
        reactor.turn(NOW).unwrap();
    }
    offers.take()
}

/// The message is whole after the first read that follows the wish.
#[test]
fn a_message_that_the_next_read_completes_is_offered() {
    assert_eq!(offers(&[4, 6], false), [4, 10]);
    assert_eq!(offers(&[4, 3, 3], false), [4, 10]);
    assert_eq!(offers(&[10, 10], false), [10, 10]);
    assert_eq!(offers(&[14, 6, 10], false), [14, 10, 10]);
}

/// Also if no read comes between the wish and the end.
#[test]
fn what_is_left_at_the_end_is_offered() {
    // The last is the offer after `on_eof`.
    assert_eq!(offers(&[4], true), [4, 4, 4]);
    assert_eq!(offers(&[4, 1], true), [4, 5, 5]);
}
