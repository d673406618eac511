//! Peers that take more than their share: those who send and never read, and those who send as fast as they can.

mod common;

use common::{PATIENCE, Program, client, echo};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Sends until nothing has been taken for a while.
fn stuff(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let (block, mut refused) = ([b'm'; 65_536], 0);
    while refused < 10 {
        match stream.write(&block) {
            Ok(_) => refused = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn mute_clients_cost_their_buffers_and_slow_nobody() {
    let program = Program::serve(&["echo=:0"]);
    let address = program.address("echo");
    let mut other = client(address);
    assert_eq!(echo(&mut other, b"first"), b"first");
    let base = resident(program.pid());
    let mut mute: Vec<TcpStream> = (0..64).map(|_| client(address)).collect();
    mute.iter_mut().for_each(stuff);
    let most = mute.len() * 2 * 65_536 + (1 << 20);
    let grown = resident(program.pid()).saturating_sub(base);
    assert!(
        grown <= most,
        "{grown} bytes for {} mute clients; {most} are allowed",
        mute.len()
    );
    for _ in 0..1000 {
        assert_eq!(echo(&mut other, b"others"), b"others");
    }
}

/// Echoes 64 KiB blocks as fast as they come back, until told to stop.
fn flood(address: SocketAddr, stop: Arc<AtomicBool>, moved: Arc<AtomicU64>) {
    let mut stream = client(address);
    let mut sender = stream.try_clone().unwrap();
    let stopped = Arc::clone(&stop);
    let sending = std::thread::spawn(move || {
        let block = vec![b'f'; 65_536];
        while !stopped.load(Ordering::Relaxed) && sender.write_all(&block).is_ok() {}
        let _ = sender.shutdown(std::net::Shutdown::Write);
    });
    let mut block = vec![0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
    sending.join().unwrap();
}

/// Prints what it measures. On two quiet cores the optimised program is to keep the 99th percentile under a millisecond beside
/// 400 MB/s; what a test may demand of any machine is that pings are not held up by whole floods: a server that drains each
/// flooder as long as it sends has pings wait for seconds, or for ever.
#[test]
fn flooders_do_not_hold_up_pings() {
    let program = Program::serve(&["echo=:0"]);
    let address = program.address("echo");
    let (stop, moved) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let flooders: Vec<_> = (0..4)
        .map(|_| {
            let (stop, moved) = (Arc::clone(&stop), Arc::clone(&moved));
            std::thread::spawn(move || flood(address, stop, moved))
        })
        .collect();
    let mut pingers: Vec<TcpStream> = (0..50).map(|_| client(address)).collect();
    let (begin, before) = (Instant::now(), moved.load(Ordering::Relaxed));
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_secs(2) {
        for pinger in &mut pingers {
            let start = Instant::now();
            assert_eq!(echo(pinger, &[b'p'; 64]), [b'p'; 64]);
            times.push(start.elapsed());
        }
    }
    let rate =
        (moved.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64() / 1e6;
    stop.store(true, Ordering::Relaxed);
    flooders
        .into_iter()
        .for_each(|flooder| flooder.join().unwrap());
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    println!(
        "flood {rate:.0} MB/s, {} pings, p50 {:?}, p99 {p99:?}",
        times.len(),
        times[times.len() / 2]
    );
    assert!(
        times.len() >= 200 && p99 < Duration::from_millis(200),
        "{} pings, p99 {p99:?}",
        times.len()
    );
    assert!(rate > 1.0, "{rate} MB/s: the flood came to a halt");
    assert!(begin.elapsed() < PATIENCE);
}
