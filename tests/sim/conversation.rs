//! Handlers with a fault that their socket tests do not see, and without.

use doorkeeper::sim::{self, Choice, Sim};
use doorkeeper::{Arrival, Closed, Config, Context, Handler, Id, Others};
use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// What a failing check says.
fn message(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the fault is found");
    *panic.downcast::<String>().unwrap()
}

/// Answers each line with its length. Without a fault it consumes a line only if its answer is taken.
#[derive(Clone, Copy, Default)]
struct Lengths {
    /// Takes what one read returned for a whole line.
    takes_a_read_for_a_line: bool,
    /// Forgets what `write` did not take.
    ignores_short_writes: bool,
    /// Ends at the peer's half-close, before it answers.
    ends_at_eof: bool,
    /// Keeps the connection after the peer's end.
    never_ends: bool,
}

impl Handler for Lengths {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        if self.takes_a_read_for_a_line {
            let line = input.strip_suffix(b"\n").unwrap_or(input);
            cx.write(format!("{}\n", line.len()).as_bytes());
            return Ok(input.len());
        }
        let mut consumed = 0;
        while let Some(length) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let answer = format!("{length}\n");
            if !self.ignores_short_writes && cx.room() < answer.len() {
                break;
            }
            cx.write(answer.as_bytes());
            consumed += length + 1;
        }
        Ok(consumed)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ends_at_eof {
            cx.abort();
        } else if !self.never_ends {
            cx.finish();
        }
        Ok(())
    }
}

fn lengths(handler: Lengths) -> sim::Conversation<impl Fn() -> Lengths> {
    let talk = sim::conversation(move || handler);
    talk.send(b"four\n")
        .expect(b"4\n")
        .send(b"\ntwenty bytes, so long\n")
        .expect(b"0\n")
        .expect(b"21\n")
}

#[test]
fn a_handler_without_a_fault_passes() {
    lengths(Lengths::default()).check();
    lengths(Lengths::default())
        .half_close()
        .expect_end()
        .check();
}

#[test]
fn a_frame_split_at_any_place_is_found() {
    let handler = Lengths {
        takes_a_read_for_a_line: true,
        ..Lengths::default()
    };
    let found = message(|| {
        sim::conversation(move || handler)
            .send(b"four\n")
            .expect(b"4\n")
            .check()
    });
    assert!(found.contains("expected \"4\\n\", received \"1"), "{found}");
    assert!(found.contains("wrote 1 \"f\""), "{found}");
    // The story is short enough to read.
    let story = found
        .split("the story:")
        .nth(1)
        .unwrap()
        .split("the failure:")
        .next()
        .unwrap();
    assert!(story.lines().count() < 45, "{story}");
}

/// Answers once there is room for any answer that it could make.
struct Careful;

impl Handler for Careful {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(if cx.room() < 100 { 0 } else { cx.write(input) })
    }
}

#[test]
fn the_story_says_how_much_room_a_handler_waits_for_in_vain() {
    let careful = || sim::conversation(|| Careful).send(b"four").expect(b"four");
    let found = message(|| careful().check());
    assert!(
        found.contains("has room for 4 bytes (see `answer_max`)"),
        "{found}"
    );
    careful().answer_max(100).check();
}

#[test]
fn an_answer_lost_on_a_short_write_is_found() {
    let handler = Lengths {
        ignores_short_writes: true,
        ..Lengths::default()
    };
    let found = message(|| lengths(handler).check());
    assert!(
        found.contains("expected \"4\\n0\\n21\\n\", received"),
        "{found}"
    );
}

#[test]
fn an_answer_cut_by_a_half_close_is_found() {
    let handler = Lengths {
        ends_at_eof: true,
        ..Lengths::default()
    };
    let found = message(|| lengths(handler).check());
    assert!(found.contains("the peer half-closes after"), "{found}");
}

#[test]
fn a_connection_that_outlives_its_peer_is_found() {
    let handler = Lengths {
        never_ends: true,
        ..Lengths::default()
    };
    let found = message(|| lengths(handler).check());
    assert!(found.contains("the connection stays open"), "{found}");
}

/// A room in which each line goes to all others.
struct Member {
    room: Rc<RefCell<Vec<Id>>>,
    /// Only leaves the room at the peer's FIN.
    forgets_resets: bool,
}

impl Member {
    fn leave(&self, id: Id) {
        self.room.borrow_mut().retain(|&member| member != id);
    }
}

impl Handler for Member {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.room.borrow_mut().push(cx.id());
        Ok(())
    }

    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let Some(length) = input.iter().position(|&byte| byte == b'\n') else {
            return Ok(0);
        };
        let own = cx.id();
        for &member in self.room.borrow().iter().filter(|&&member| member != own) {
            cx.others.send(member, &input[..=length]);
        }
        Ok(length + 1)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.leave(cx.id());
        cx.finish();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Others<'_>, closed: &Closed) {
        if !self.forgets_resets {
            self.leave(closed.id);
        }
    }
}

fn a_room(sim: &Sim, forgets_resets: bool) {
    let room = Rc::new(RefCell::new(Vec::new()));
    let server = sim.reactor(Config::default()).unwrap();
    let address = "10.0.0.1:7".parse().unwrap();
    let members = Rc::clone(&room);
    let service = move |_: &mut Arrival<'_>| {
        let room = Rc::clone(&members);
        Some(Member {
            room,
            forgets_resets,
        })
    };
    server.borrow_mut().listen(address, service).unwrap();
    let peers: Vec<_> = (0..3).map(|_| sim.connect(address)).collect();
    sim.run_until(|| room.borrow().len() == 3);
    peers[0].send(b"hello\n");
    sim.run_until(|| peers[1].received() == b"hello\n" && peers[2].received() == b"hello\n");
    match sim.choose(2) {
        0 => peers[1].half_close(),
        _ => peers[1].reset(),
    }
    sim.run_to_rest();
    assert_eq!(room.borrow().len(), 2, "members of the room");
}

#[test]
fn a_member_that_a_reset_leaves_behind_is_found() {
    sim::seeds(0..300, |sim| a_room(sim, false));
    let found = message(|| sim::seeds(0..300, |sim| a_room(sim, true)));
    let choices =
        "choices that differ from a plain network:\n  the test chooses 1 of 2\n\nthe story";
    assert!(found.contains(choices), "{found}");
    assert!(found.contains("members of the room"), "{found}");
    assert!(found.contains("resets"), "{found}");
}

#[test]
fn every_combination_of_a_small_test_is_run() {
    let explored = sim::explore(100_000, |sim| {
        sim.set_rate(Choice::SpuriousEvent, 0);
        sim.set_most(Choice::StaleEvent, 0);
        sim.set_most(Choice::Interrupt, 1);
        sim.set_most(Choice::Next, 2);
        let server = crate::running::echo_server(sim, Config::default());
        let peer = sim.connect(crate::running::address());
        peer.send(b"ab");
        sim.run_until(|| peer.received() == b"ab");
        drop(server);
    });

    assert!(explored.all, "{explored:?}");
    assert!(explored.runs > 20, "{explored:?}");
}

/// At each accept: they cost at most the connection they stand for. That there are any is asked for
/// after how many there may be.
#[test]
fn every_error_of_accept_is_run() {
    for limit in [1, 3] {
        let most = std::cell::Cell::new(0);
        let explored = sim::explore(100_000, |sim| {
            sim.set_most(Choice::AcceptError, limit);
            sim.set_rate(Choice::AcceptError, 64);
            for other in [
                Choice::Next,
                Choice::SpuriousEvent,
                Choice::StaleEvent,
                Choice::Interrupt,
            ] {
                sim.set_most(other, 0);
            }
            let server = crate::running::echo_server(sim, Config::default());
            let peer = sim.connect(crate::running::address());
            peer.send(b"a");
            sim.run_until(|| peer.received() == b"a" || peer.ending().is_some());
            let errors = server.borrow().stats().accept_errors;
            most.set(errors.max(most.get()));
            assert!(errors > 0 || peer.ending().is_none());
        });

        assert!(explored.all && explored.runs > 5, "{explored:?}");
        assert_eq!(most.get(), limit as u64);
    }
}

#[test]
fn a_panic_in_a_callback_fails_the_run() {
    struct Panics;
    impl Handler for Panics {
        fn on_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> io::Result<usize> {
            panic!("three is not allowed");
        }
    }
    let found = message(|| sim::conversation(|| Panics).send(b"3").expect(b"").check());
    assert!(found.contains("three is not allowed"), "{found}");
}
