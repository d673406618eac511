//! connect returns, and write takes bytes, before anyone has called accept.

use crate::setting::Setting;
use check::diag;
use std::io::{Read, Result, Write};
use std::net::Shutdown;

pub fn observe() -> Result<Vec<String>> {
    let setting = Setting::new()?;
    let port = setting.port();

    let mut client = setting.client()?;
    client.write_all(b"nine byte")?;
    let own = client.local_addr()?.port();
    let queue = || diag::end_of(port, own).map_or(0, |socket| socket.receive_queue);
    let waiting = diag::listener(port).map_or(0, |socket| socket.receive_queue);
    let before = queue();
    assert_eq!((waiting, before), (1, 9));

    client.shutdown(Shutdown::Write)?;
    let with_the_end = queue();
    assert_eq!(with_the_end, 10);

    let (mut server, _) = setting.listener.accept()?;
    let mut buffer = [0; 100];
    let counts = [server.read(&mut buffer)?, server.read(&mut buffer)?];
    assert_eq!(counts, [9, 0]);

    Ok(vec![
        "the server has called listen, and nothing since".into(),
        "the client: connect() = 0, write(9) = 9".into(),
        format!("accept queue: {waiting}; Recv-Q of the connection: {before}"),
        format!(
            "the client: shutdown(SHUT_WR); Recv-Q: {with_the_end}, because the FIN counts as one"
        ),
        format!(
            "the server accepts, and reads {} bytes, then {}",
            counts[0], counts[1]
        ),
    ])
}
