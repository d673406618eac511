//! What holds a local port, for the message that says why a socket cannot have it.

#[cfg(target_os = "linux")]
use std::io;
#[cfg(target_os = "linux")]
use std::net::{IpAddr, SocketAddr};

/// The sockets of a port, as far as the system shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Listener,
    /// Nothing but connections in TIME_WAIT: the earlier server closed them first, and set no
    /// SO_REUSEADDR.
    TimeWait,
    /// A socket in another state, or none that the system shows.
    Other,
}

/// Looks the port up in /proc/net/tcp and tcp6 (proc(5)), which list the sockets of this network
/// namespace.
pub(crate) fn holder(port: u16) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    holder_in(port, tables.iter().flat_map(|table| table.lines()))
}

/// States in these tables.
const TIME_WAIT: &str = "06";
const LISTEN: &str = "0A";

fn holder_in<'a>(port: u16, lines: impl Iterator<Item = &'a str>) -> Holder {
    let suffix = format!(":{port:04X}");
    let (mut time_wait, mut other) = (false, false);
    for line in lines {
        // The fields: number, local address, remote address, state.
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        if !local.is_some_and(|local| local.ends_with(&suffix)) {
            continue;
        }
        match state {
            Some(LISTEN) => return Holder::Listener,
            Some(TIME_WAIT) => time_wait = true,
            _ => other = true,
        }
    }
    if time_wait && !other {
        Holder::TimeWait
    } else {
        Holder::Other
    }
}

/// The number of listeners of exactly this address.
#[cfg(target_os = "linux")]
pub(crate) fn listeners(address: SocketAddr) -> io::Result<usize> {
    let (path, host) = match address.ip() {
        IpAddr::V4(ip) => ("/proc/net/tcp", hex(&ip.octets())),
        IpAddr::V6(ip) => ("/proc/net/tcp6", hex(&ip.octets())),
    };
    let local = format!("{host}:{:04X}", address.port());
    let table = std::fs::read_to_string(path)?;
    Ok(table
        .lines()
        .filter(|line| listens_on(line, &local))
        .count())
}

#[cfg(target_os = "linux")]
fn listens_on(line: &str, address: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    fields.next() == Some(address) && fields.nth(1) == Some(LISTEN)
}

/// An address as the tables show it: words of 32 bits, each as a number of this machine.
#[cfg(target_os = "linux")]
fn hex(octets: &[u8]) -> String {
    let words = octets.chunks_exact(4).map(|word| {
        // A chunk of four.
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        format!("{word:08X}")
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::{Holder, holder_in};

    #[cfg(target_os = "linux")]
    #[test]
    fn listeners_of_an_address_are_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = std::net::TcpListener::bind(address).unwrap();
            let mut address = socket.local_addr().unwrap();
            assert_eq!(super::listeners(address).unwrap(), 1);
            let client = std::net::TcpStream::connect(address).unwrap();
            // A connection is not a listener.
            assert_eq!(super::listeners(client.local_addr().unwrap()).unwrap(), 0);
            address.set_ip([127, 0, 0, 9].into());
            assert_eq!(super::listeners(address).unwrap(), 0);
        }
    }

    #[test]
    fn the_state_of_a_socket_of_this_port_decides() {
        let listener = "   0: 0100007F:1B5F 00000000:0000 0A 00000000:00000000 00:00000000";
        let waiting = "   1: 0100007F:1B5F 0100007F:9C40 06 00000000:00000000 03:00001735";
        let open = "   2: 0100007F:1B5F 0100007F:9C41 01 00000000:00000000 00:00000000";
        let client = "   3: 0100007F:9C40 0100007F:1B5F 06 00000000:00000000 00:00000000";
        let of = |lines: &[&'static str]| holder_in(0x1B5F, lines.iter().copied());
        assert_eq!(of(&[waiting, listener, client]), Holder::Listener);
        assert_eq!(of(&[client, waiting]), Holder::TimeWait);
        assert_eq!(of(&[waiting, open]), Holder::Other);
        assert_eq!(of(&[client]), Holder::Other);
    }
}
