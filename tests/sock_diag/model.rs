//! What must hold of the messages in any bytes: for the fuzzer, and for the test that replays its
//! corpus.

use super::message::{ByteOrder, Message, SocketInfo, messages};

/// Checks the bytes as a datagram of each byte order. Returns its messages in each.
pub fn check(bytes: &[u8]) -> [Vec<Message>; 2] {
    [ByteOrder::Little, ByteOrder::Big].map(|order| {
        let found: Vec<Message> = messages(bytes, order).collect();
        assert!(found.len() <= bytes.len() / 16 + 1);
        let sockets = found.len() - usize::from(found.last() == Some(&Message::End));
        assert!(found[..sockets].iter().all(|&one| one != Message::End));
        assert_eq!(found, model(bytes, order), "{order:?}");
        found
    })
}

/// The same, from the words of the manual pages: netlink(7) and sock_diag(7). The machine's numbers
/// are turned around, byte by byte, if the order is the big one.
fn model(bytes: &[u8], order: ByteOrder) -> Vec<Message> {
    let number = |at: usize, width: usize| -> Option<u64> {
        let mut digits = bytes.get(at..)?.get(..width)?.to_vec();
        if matches!(order, ByteOrder::Little) {
            digits.reverse();
        }
        Some(
            digits
                .iter()
                .fold(0, |sum, &digit| sum * 256 + u64::from(digit)),
        )
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (length, kind) = (number(at, 4), number(at + 4, 2));
        let fits = |length: &u64| (16 + 72..=(bytes.len() - at) as u64).contains(length);
        let (Some(length), Some(20)) = (length.filter(fits), kind) else {
            found.push(Message::End);
            break;
        };
        let part = |offset: usize| number(at + 16 + offset, 4).unwrap();
        let cookie = part(44) + (part(48) << 32);
        found.push(Message::Socket(SocketInfo {
            cookie,
            state: bytes[at + 17],
            receive_queue: part(56) as u32,
            send_queue: part(60) as u32,
        }));
        at += length.div_ceil(4) as usize * 4;
    }
    found
}
