//! The client of every socket tutorial, nonblocking:
//! `cargo run --example client [ADDRESS [WORD]...]`.
//!
//! It shows socket → connect → write → read → close. `connect` only starts an attempt. `on_open` is
//! called when the connection is established. `on_close` tells how it ended; if only `on_close` is
//! called, connecting failed.

use doorkeeper::{Closed, Config, Context, Handler, Others, Reactor};
use std::io::{Error, Result, Write};

struct Greeter(String);

impl Handler for Greeter {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.write(self.0.as_bytes());
        cx.half_close();
        Ok(())
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        std::io::stdout().write_all(input)?;
        Ok(input.len())
    }

    fn on_close(&mut self, others: &mut Others<'_>, closed: &Closed) {
        eprintln!(
            "{}: {}; {} bytes sent, {} received",
            closed.peer, closed.reason, closed.sent, closed.received
        );
        others.stop();
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args
        .next()
        .unwrap_or("127.0.0.1:7007".to_string())
        .parse()
        .map_err(Error::other)?;
    let words: Vec<String> = args.collect();
    let mut reactor = Reactor::new(Config::default())?;
    reactor.connect(address, Greeter(format!("{}\n", words.join(" "))))?;
    reactor.run()
}
