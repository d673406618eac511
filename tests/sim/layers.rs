//! Layers on every network: what they make of bytes that are split, delayed and refused.

use crate::running::address;
use crate::toys::{Records, Xor};
use doorkeeper::sim::{self, Sim};
use doorkeeper::{Closed, Config, Context, Handler, Layered, Others, Reason, TimerKey};
use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Answers each line with its length.
struct Length;

impl Handler for Length {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let mut consumed = 0;
        while let Some(length) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let answer = format!("{length}\n");
            if cx.room() < answer.len() {
                break;
            }
            cx.write(answer.as_bytes());
            consumed += length + 1;
        }
        Ok(consumed)
    }
}

fn xor(bytes: &[u8], by: u8) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ by).collect()
}

#[test]
fn a_handler_that_passes_a_conversation_passes_it_through_layers() {
    let one = || Layered::new(Xor(1), Length);
    sim::conversation(one)
        .send(&xor(b"ab\n", 1))
        .expect(&xor(b"2\n", 1))
        .send(&xor(b"\n", 1))
        .expect(&xor(b"0\n", 1))
        .check();
    let two = || Layered::new(Xor(1), Layered::new(Xor(6), Length));
    sim::conversation(two)
        .send(&xor(b"abc\n\n", 7))
        .expect(&xor(b"3\n0\n", 7))
        .check();
}

/// What both sides wrote and were offered, and how they ended.
#[derive(Default)]
struct Book {
    written: [Vec<u8>; 2],
    offered: [Vec<u8>; 2],
    ended: [Option<Reason>; 2],
    eofs: [usize; 2],
}

/// One of two sides that write at random, and half-close after so many bytes.
struct Side {
    number: usize,
    left: usize,
    sim: Sim,
    book: Rc<RefCell<Book>>,
}

impl Side {
    fn write(&mut self, cx: &mut Context<'_>) {
        let count = self.left.min(1 + self.sim.choose(300));
        let at = self.book.borrow().written[self.number].len();
        let bytes: Vec<u8> = (at..at + count).map(|at| (at * 7) as u8).collect();
        let taken = cx.write(&bytes);
        self.book.borrow_mut().written[self.number].extend(&bytes[..taken]);
        self.left -= taken;
        match self.left {
            0 => cx.half_close(),
            _ => cx.set_timer(
                TimerKey(1),
                Duration::from_millis(self.sim.choose(3) as u64),
            ),
        }
    }
}

impl Handler for Side {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.set_timer(TimerKey(1), Duration::ZERO);
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let count = match self.sim.choose(3) {
            0 => input.len(),
            1 => {
                cx.want(input.len() + 1).unwrap_or_default();
                0
            }
            // The rest is offered again when this side is woken, or when there is more.
            _ => {
                cx.others.wake(cx.id());
                self.sim.choose(input.len() + 1)
            }
        };
        self.book.borrow_mut().offered[self.number].extend(&input[..count]);
        if count == 0 {
            cx.others.wake(cx.id());
        }
        Ok(count)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        self.write(cx);
        Ok(())
    }

    /// It goes on writing, and ends then.
    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.book.borrow_mut().eofs[self.number] += 1;
        cx.others.wake(cx.id());
        Ok(())
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if cx.unread() > 0 && self.book.borrow().eofs[self.number] > 0 {
            cx.others.wake(cx.id());
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        let book = &mut self.book.borrow_mut();
        let (written, offered) = (&book.written[self.number], &book.offered[self.number]);
        assert_eq!(closed.reason, Reason::Finished, "{:?}", closed.error);
        assert_eq!(closed.sent as usize, written.len());
        assert_eq!(closed.received as usize, offered.len());
        book.ended[self.number] = Some(closed.reason);
    }
}

fn stack(choice: usize, handler: Side) -> Layered {
    match choice {
        0 => Layered::new(Xor(1), handler),
        1 => Layered::new(Records::default(), handler),
        2 => Layered::new(Records::default(), Layered::new(Xor(1), handler)),
        _ => Layered::new(
            Records::default(),
            Layered::new(Records::default(), handler),
        ),
    }
}

/// Two reactors, a connection between them, and random sizes of everything. Both sides end in order, and
/// each is offered what the other wrote.
#[test]
fn two_sides_hear_each_other_exactly_through_the_same_layers() {
    sim::seeds(0..100, |sim| {
        let book = Rc::new(RefCell::new(Book::default()));
        let (kind, lengths) = (sim.choose(4), [sim.choose(5000), sim.choose(5000)]);
        let side = |number: usize| Side {
            number,
            left: lengths[number],
            sim: sim.clone(),
            book: Rc::clone(&book),
        };
        let mut config = Config::default();
        config.input_max_bytes = 1100 + sim.choose(3000);
        config.output_max_bytes = 1 + sim.choose(3000);
        config.turn_budget_bytes = 1 + sim.choose(3000);
        let server = sim.reactor(config.clone()).unwrap();
        let mut accepted = Some(side(0));
        let listening = server.borrow_mut().listen(address(), move |_| {
            accepted.take().map(|side| stack(kind, side))
        });
        listening.unwrap();
        let caller = sim.reactor(config).unwrap();
        let connected = caller.borrow_mut().connect(address(), stack(kind, side(1)));
        connected.unwrap();
        sim.run_until(|| book.borrow().ended.iter().all(Option::is_some));
        let book = book.borrow();
        assert_eq!([book.written[0].len(), book.written[1].len()], lengths);
        assert_eq!(book.offered[0], book.written[1]);
        assert_eq!(book.offered[1], book.written[0]);
        assert_eq!(book.eofs, [1, 1]);
    });
}

/// Answers 1 ms later, and ends at the peer's end, whether it has answered or not.
#[derive(Default)]
struct Hasty(Vec<u8>);

impl Handler for Hasty {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        self.0.extend(input);
        cx.set_timer(TimerKey(0), Duration::from_millis(1));
        Ok(input.len())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerKey) -> io::Result<()> {
        cx.write_all(&std::mem::take(&mut self.0))
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.finish();
        Ok(())
    }
}

/// The answer that it forgets is missing only after a half-close.
#[test]
fn a_conversation_through_a_layer_finds_an_answer_that_is_lost_at_the_end() {
    let check = || {
        sim::conversation(|| Layered::new(Xor(3), Hasty::default()))
            .through(|| Xor(3))
            .send(b"ab")
            .expect(b"ab")
            .check()
    };
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the fault is found");
    let message = panic.downcast::<String>().unwrap();
    assert!(message.contains("half-closes after 2 bytes"), "{message}");
}
