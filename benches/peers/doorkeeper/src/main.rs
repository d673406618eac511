//! Echo on doorkeeper, with its idle timeout, limits and statistics on.

use doorkeeper::{Config, Context, Handler, Reactor};
use std::io::{Error, Result};
use std::time::Duration;

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        Ok(cx.write(input))
    }
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_string());
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(600));
    config.max_connections = 20_000;
    let mut reactor = Reactor::new(config)?;
    let id = reactor.listen(address.parse().map_err(Error::other)?, |_peer| Some(Echo))?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
