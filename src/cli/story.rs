//! `doorkeeper story`: a server and a client in one loop, and every system call of both.

use super::Failure;
use super::observe::{Form, Narrator};
use super::output;
use doorkeeper::services::Echo;
use doorkeeper::{Closed, Config, Context, Handler, Others, Reactor};
use std::io;
use std::time::Instant;

/// Sends one line, half-closes, reads the echo, and stops the loop.
struct Client;

impl Handler for Client {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        cx.write(b"hello\n");
        cx.half_close();
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, _: &Closed) {
        others.stop();
    }
}

pub(crate) fn run() -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format_args!("cannot run the story: {error}"));
    let writer = output::stdout().map_err(Failure::thread)?;
    let mut reactor = Reactor::new(Config::default()).map_err(failed)?;
    reactor.observe(Box::new(Narrator::new(
        &writer,
        Form::Columns,
        Instant::now(),
    )));
    let id = reactor
        .listen(([127, 0, 0, 1], 0).into(), |_| Some(Echo))
        .map_err(failed)?;
    let address = reactor.local_addr(id).map_err(failed)?;
    reactor.connect(address, Client).map_err(failed)?;
    reactor.run().map_err(failed)?;
    // Its connections and the listener close, which is the end of the story.
    drop(reactor);
    output::finish_stdout(&writer)
}
