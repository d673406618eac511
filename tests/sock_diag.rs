//! The messages of sock_diag(7), against canned ones in both byte orders, and against the fuzzer's
//! corpus.

#[path = "../src/sys/sock_diag/message.rs"]
mod message;
#[path = "sock_diag/model.rs"]
mod model;

use message::{ByteOrder, Message, connection, listeners, messages};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// The answer of Linux 6.18 on x86-64 to a dump: a listener on 127.0.0.1:34277 with three
/// connections in its accept queue and a backlog of five, its attributes, and the end.
const LITTLE: &str = "
    7c000000 1400 0200 00000000 21230000
    02 0a 00 00 85e5 0000 7f000001000000000000000000000000 00000000000000000000000000000000
    00000000 b6d10000 01000000 00000000 03000000 05000000 00000000 6c322c00
    0500 0800 00000000 0800 0f00 00000000 0c00 1500 01000000 00000000 0600 1600 52000000
    14000000 0300 0200 00000000 21230000 00000000";

/// The same answer of a big-endian machine: each number has its bytes in the other order. Addresses
/// and ports are in network order on both, and bytes are bytes.
const BIG: &str = "
    0000007c 0014 0002 00000000 00002321
    02 0a 00 00 85e5 0000 7f000001000000000000000000000000 00000000000000000000000000000000
    00000000 0000d1b6 00000001 00000000 00000003 00000005 00000000 002c326c
    0005 0008 00000000 0008 000f 00000000 000c 0015 00000000 00000001 0006 0016 52000000
    00000014 0003 0002 00000000 00002321 00000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn a_dump_of_each_byte_order_says_the_same() {
    let is_big = matches!(ByteOrder::NATIVE, ByteOrder::Big);
    assert_eq!(is_big, cfg!(target_endian = "big"));
    for (order, hex) in [(ByteOrder::Little, LITTLE), (ByteOrder::Big, BIG)] {
        let answer = bytes(hex);
        let found: Vec<Message> = messages(&answer, order).collect();
        let [Message::Socket(socket), Message::End] = found[..] else {
            panic!("{order:?}: {found:?}")
        };
        assert_eq!(
            (socket.cookie, socket.receive_queue, socket.send_queue),
            (0x1_0000_d1b6, 3, 5),
            "{order:?}"
        );
    }
}

/// The FIN takes a sequence number, so it counts in the send queue until it is acknowledged.
#[test]
fn a_fin_that_is_not_acknowledged_is_not_counted_as_a_byte() {
    let mut answer = bytes(LITTLE);
    for (state, unsent) in [(1, 5), (4, 4), (5, 5), (8, 5), (9, 4), (11, 4)] {
        answer[17] = state;
        let first = messages(&answer, ByteOrder::Little).next();
        let Some(Message::Socket(socket)) = first else {
            panic!("{first:?}")
        };
        assert_eq!(socket.undelivered(), unsent, "state {state}");
    }
}

#[test]
fn an_error_and_a_message_that_makes_no_sense_end_the_answer() {
    let answer = bytes(LITTLE);
    let error =
        bytes("24000000 0200 0000 00000000 21230000 feffffff 48000000 1400 0103 0000000000000000");
    assert_eq!(
        messages(&error, ByteOrder::Little).collect::<Vec<_>>(),
        [Message::End]
    );
    for length in 1..answer.len() - 4 {
        let found: Vec<Message> = messages(&answer[..length], ByteOrder::Little).collect();
        let whole = usize::from(length >= 124);
        let ends = usize::from(length != 124);
        assert_eq!(found.len(), whole + ends, "{length} bytes: {found:?}");
    }
    assert_eq!(messages(&[], ByteOrder::Little).next(), None);
}

/// A request has the byte order of the machine; these are little-endian.
#[cfg(target_endian = "little")]
#[test]
fn a_request_names_the_port_or_the_two_addresses() {
    let local: SocketAddr = "127.0.0.1:34277".parse().unwrap();
    let peer: SocketAddr = "10.1.2.3:80".parse().unwrap();
    let wanted = "
        48000000 1400 0103 00000000 00000000 02 06 00 00 00040000 85e5 0000
        00000000000000000000000000000000 00000000000000000000000000000000 00000000 00000000 00000000";
    assert_eq!(listeners(local).to_vec(), bytes(wanted));
    let wanted = "
        48000000 1400 0100 00000000 00000000 02 06 00 00 00000000 85e5 0050
        7f000001000000000000000000000000 0a010203000000000000000000000000 00000000 ffffffff ffffffff";
    assert_eq!(connection(local, peer).to_vec(), bytes(wanted));
    let zoned: SocketAddr = "[fe80::1%7]:256".parse().unwrap();
    let wanted = "
        48000000 1400 0100 00000000 00000000 0a 06 00 00 00000000 0100 0100
        fe800000000000000000000000000001 fe800000000000000000000000000001 07000000 ffffffff ffffffff";
    assert_eq!(connection(zoned, zoned).to_vec(), bytes(wanted));
}

/// Every file of the corpus goes through the function that the fuzzer calls. Among them are
/// answers with one and with several sockets, with and without an end, and without any socket, in
/// both byte orders; otherwise the corpus would show little.
#[test]
fn the_corpus_of_the_fuzzer_finds_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/sock_diag");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for (order, messages) in ["little", "big"].into_iter().zip(model::check(&bytes)) {
            let sockets = messages.iter().filter(|&&one| one != Message::End).count();
            let ended = messages.last() == Some(&Message::End);
            seen.insert((order, sockets.min(2), ended));
        }
    }
    assert_eq!(seen.len(), 2 * 5, "{seen:?}");
}
