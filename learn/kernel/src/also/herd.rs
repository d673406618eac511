//! Eight processes wait for one listener. A client wakes all of them; with EPOLLEXCLUSIVE it wakes few.

use super::epoll::Watch;
use super::listen;
use check::proc;
use rustix::event::epoll::EventFlags;
use rustix::process::Pid;
use std::io::{ErrorKind, Read, Result, stdin};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROCESSES: usize = 8;
const CLIENTS: u64 = 10;

/// The word by which this program is started as one of the processes.
pub const CHILD: &str = "one-of-the-herd";

/// One of the processes. Its standard input is the listener. It ends when it is killed.
pub fn child(exclusive: bool) -> Result<()> {
    let listener = TcpListener::from(stdin().as_fd().try_clone_to_owned()?);
    let asked = match exclusive {
        true => EventFlags::IN | EventFlags::EXCLUSIVE,
        false => EventFlags::IN,
    };
    let watch = Watch::new(&listener, asked)?;
    println!("it waits");
    loop {
        watch.wait(Duration::from_secs(60))?;
        match listener.accept() {
            // It is closed at once.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The processes. They end with this.
struct Herd(Vec<Child>);

impl Herd {
    fn start(listener: &TcpListener, exclusive: bool) -> Result<Herd> {
        let mut herd = Herd(Vec::new());
        for _ in 0..PROCESSES {
            let listener: OwnedFd = listener.try_clone()?.into();
            let mut command = Command::new(std::env::current_exe()?);
            command.args([CHILD, if exclusive { "exclusive" } else { "all" }]);
            command.stdin(Stdio::from(listener)).stdout(Stdio::piped());
            herd.0.push(command.spawn()?);
        }
        for child in &mut herd.0 {
            let said = child.stdout.as_mut().expect("it is piped");
            said.read_exact(&mut [0; 1])?;
        }
        Ok(herd)
    }

    fn ids(&self) -> impl Iterator<Item = Pid> {
        self.0.iter().map(Pid::from_child)
    }

    fn sleeps(&self) -> u64 {
        self.ids().map(proc::sleeps).sum()
    }

    /// Waits until all of them are in epoll_wait, and stay there.
    fn wait_for_sleep(&self) {
        let start = Instant::now();
        let (mut before, mut same) = (self.sleeps(), 0);
        while same < 3 {
            assert!(start.elapsed() < Duration::from_secs(20), "never asleep");
            sleep(Duration::from_millis(2));
            let (now, asleep) = (
                self.sleeps(),
                self.ids().all(|id| proc::all_are(id, &['S'])),
            );
            same = if asleep && now == before { same + 1 } else { 0 };
            before = now;
        }
    }

    /// How often the processes have gone to sleep again because of the clients.
    fn serve(&self, address: SocketAddr) -> Result<u64> {
        self.wait_for_sleep();
        let before = self.sleeps();
        for _ in 0..CLIENTS {
            let mut client = TcpStream::connect(address)?;
            assert_eq!(client.read(&mut [0; 1])?, 0);
            self.wait_for_sleep();
        }
        Ok(self.sleeps() - before)
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn woken(exclusive: bool) -> Result<u64> {
    let (listener, address) = listen(0, 128, |socket| socket.set_nonblocking(true))?;
    let herd = Herd::start(&listener, exclusive)?;
    herd.serve(address)
}

pub fn observe() -> Result<Vec<String>> {
    let all = woken(false)?;
    let few = woken(true)?;
    assert!(few >= CLIENTS, "a client wakes one at least: {few}");
    assert!(all > 2 * few, "{all} and {few}");
    Ok(vec![
        format!("{PROCESSES} processes wait for one listener, {CLIENTS} clients come one by one"),
        format!("the processes are woken {all} times"),
        format!("with EPOLLEXCLUSIVE: {few} times"),
    ])
}
