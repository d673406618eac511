//! A backlog of n lets n + 1 in. The others are not refused: they try again.

use check::diag;
use socket2::{Domain, Socket, Type};
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// SYN-SENT in include/net/tcp_states.h.
const SYN_SENT: u8 = 2;

fn socket() -> Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, None)
}

/// Handshakes that met a full accept queue, in this network namespace, since it exists.
fn overflows() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(name, _)| *name == "ListenOverflows")?
        .1
        .parse()
        .ok()
}

pub fn observe() -> Result<Vec<String>> {
    let listener = socket()?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(2)?;
    let address = listener.local_addr()?;
    let port = address.as_socket().map_or(0, |address| address.port());
    let before = overflows().ok_or(Error::other("no ListenOverflows"))?;

    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = socket()?;
        client.set_nonblocking(true)?;
        // EINPROGRESS, whether it gets in or not.
        let _ = client.connect(&address);
        clients.push(client);
    }
    let queue = || diag::listener(port).map_or(0, |socket| socket.receive_queue);
    let waits = |client: &&Socket| {
        let own = client.local_addr().ok().and_then(|own| own.as_socket());
        let end = own.and_then(|own| diag::end_of(own.port(), port));
        end.is_some_and(|end| end.state == SYN_SENT)
    };
    let (inside, outside) = (queue(), clients.iter().filter(waits).count());
    assert_eq!((inside, outside), (3, 2));
    let counted = overflows().map_or(0, |after| after - before);
    assert!(counted >= 2);

    // A place is free. The client that waits does not know: it comes in with its next SYN.
    listener.accept()?;
    let start = Instant::now();
    let at_once = queue();
    while queue() < 3 {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody came");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(at_once, 2);
    assert!(start.elapsed() > Duration::from_millis(100));

    Ok(vec![
        format!(
            "backlog 2, 5 clients connect: {inside} are in the accept queue, {outside} in SYN-SENT"
        ),
        "the kernel has counted at least 2 overflows".into(),
        format!("1 is accepted: {at_once} are in the accept queue at once, 3 after the next SYN"),
    ])
}
