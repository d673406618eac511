//! An echo server in 20 lines: `cargo run --example echo [ADDRESS]`.

use doorkeeper::{Config, Context, Handler, Reactor};
use std::io::{Error, Result};

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        Ok(cx.write(input))
    }
}

fn main() -> Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:7007".to_string());
    let mut reactor = Reactor::new(Config::default())?;
    let id = reactor.listen(address.parse().map_err(Error::other)?, |_| Some(Echo))?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
