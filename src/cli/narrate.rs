//! The story of each connection as it happens: one line a call, in the order of the calls.

use super::teller::{Sink, Teller};
use doorkeeper::{Call, Event, Id, Observer};
use rustix::io::Errno;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people: when, who, the call with its result, and what that means.
    Text,
    /// For programs: a JSON object.
    Json,
    /// For people, a server and a client side by side.
    Columns,
}

/// How wide a column is.
const COLUMN: usize = 38;

pub(crate) struct Narrator {
    teller: Rc<Teller>,
    form: Form,
    /// Those who called, not those who were let in.
    clients: Vec<Id>,
    /// A line that waits for the next, to know whose column it stands in.
    held: Option<(String, String)>,
}

impl Form {
    /// The line that tells of a waiting room.
    pub(crate) fn waiting(
        self,
        at: f64,
        id: Id,
        address: SocketAddr,
        depth: u32,
        limit: u32,
    ) -> String {
        match self {
            Form::Json => format!(
                "{{\"at\":{at:.6},\"id\":\"{id}\",\"waiting\":{depth},\"backlog\":{limit}}}"
            ),
            _ => format!(
                "{at:>11.6} {:<8} the waiting room of {address}: {depth} of {limit}",
                id.to_string()
            ),
        }
    }
}

/// The story's way out.
pub(crate) struct Narration<W> {
    output: W,
    form: Form,
}

impl<W: Write + Send> Narration<W> {
    pub(crate) fn new(output: W, form: Form) -> Narration<W> {
        Narration { output, form }
    }
}

impl<W: Write + Send> Sink for Narration<W> {
    fn take(&mut self, lines: &[String]) -> io::Result<()> {
        self.output
            .write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
        self.output.flush()
    }

    fn left_out(&self) -> fn(u64) -> String {
        match self.form {
            Form::Json => |count| format!("{{\"left_out\":{count}}}"),
            _ => |count| format!("({count} lines left out: the reader is slow)"),
        }
    }
}

impl Narrator {
    pub(crate) fn new(teller: &Rc<Teller>, form: Form) -> Narrator {
        if form == Form::Columns {
            teller.tell(format!(
                "{:<COLUMN$}{:<COLUMN$}what it means",
                "server", "client"
            ));
        }
        Narrator {
            teller: Rc::clone(teller),
            form,
            clients: Vec::new(),
            held: None,
        }
    }

    fn tell(&mut self, id: Id, call: &Call<'_>, result: Result<usize, &io::Error>) {
        let (told, meaning) = (
            format!("{} = {}", words(call), outcome(call, result)),
            meaning(call, result),
        );
        match self.form {
            Form::Text => self.teller.tell(format!(
                "{:>11.6} {:<8} {told:<46} {meaning}",
                self.teller.seconds(),
                id.to_string()
            )),
            Form::Json => self.teller.tell(self.object(id, call, result)),
            // Whose a socket is shows in what is done with it: the next call, which is of the same one.
            Form::Columns if matches!(call, Call::Socket { .. }) => {
                self.held = Some((told, meaning))
            }
            Form::Columns => {
                if matches!(call, Call::Connect { .. }) {
                    self.clients.push(id);
                }
                let indent = if self.clients.contains(&id) {
                    COLUMN
                } else {
                    0
                };
                for (told, meaning) in self.held.take().into_iter().chain([(told, meaning)]) {
                    let told = format!("{:indent$}{told}", "");
                    self.teller
                        .tell(format!("{told:<width$}{meaning}", width = 2 * COLUMN));
                }
            }
        }
    }

    /// Nothing in it needs escaping: the strings are names of calls, ids, addresses and error kinds.
    fn object(&self, id: Id, call: &Call<'_>, result: Result<usize, &io::Error>) -> String {
        let detail = match call {
            Call::Socket { address } | Call::Bind { address } | Call::Connect { address } => {
                format!(",\"address\":\"{address}\"")
            }
            Call::Listen { backlog } => format!(",\"backlog\":{backlog}"),
            Call::Accept {
                accepted: Some((peer, id)),
            } => format!(",\"peer\":\"{peer}\",\"connection\":\"{id}\""),
            Call::Read { length, .. } | Call::Write { length, .. } => {
                format!(",\"length\":{length}")
            }
            _ => String::new(),
        };
        let result = match result {
            Ok(count) => format!("\"result\":{count}"),
            Err(error) => match error.raw_os_error() {
                Some(errno) => format!("\"errno\":{errno},\"error\":\"{:?}\"", error.kind()),
                None => format!("\"error\":\"{:?}\"", error.kind()),
            },
        };
        format!(
            "{{\"at\":{:.6},\"id\":\"{id}\",\"call\":\"{}\"{detail},{result}}}",
            self.teller.seconds(),
            name(call)
        )
    }
}

impl Observer for Narrator {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Call { id, call, result } => {
                self.tell(*id, call, *result);
                if matches!(call, Call::Close) {
                    self.clients.retain(|client| client != id);
                }
            }
            Event::ListenerState { id, state } => {
                let line = match self.form {
                    Form::Json => format!(
                        "{{\"at\":{:.6},\"id\":\"{id}\",\"listener\":\"{state}\"}}",
                        self.teller.seconds()
                    ),
                    Form::Text => format!(
                        "{:>11.6} {:<8} the listener: {state}",
                        self.teller.seconds(),
                        id.to_string()
                    ),
                    Form::Columns => return,
                };
                self.teller.tell(line);
            }
            _ => {}
        }
    }
}

fn name(call: &Call<'_>) -> &'static str {
    match call {
        Call::Socket { .. } => "socket",
        Call::Bind { .. } => "bind",
        Call::Listen { .. } => "listen",
        Call::Connect { .. } => "connect",
        Call::SocketError => "getsockopt",
        Call::Accept { .. } => "accept",
        Call::Read { .. } => "read",
        Call::Write { .. } => "write",
        Call::Shutdown => "shutdown",
        Call::Close => "close",
        _ => "call",
    }
}

/// The call with its arguments.
fn words(call: &Call<'_>) -> String {
    let name = name(call);
    match call {
        Call::Bind { address } | Call::Connect { address } => format!("{name}({address})"),
        Call::Listen { backlog } => format!("{name}({backlog})"),
        Call::SocketError => format!("{name}(SO_ERROR)"),
        Call::Read { length, .. } | Call::Write { length, .. } => format!("{name}({length})"),
        _ => format!("{name}()"),
    }
}

fn outcome(call: &Call<'_>, result: Result<usize, &io::Error>) -> String {
    match (call, result) {
        (_, Err(error)) => kind(error),
        (
            Call::Accept {
                accepted: Some((_, id)),
            },
            Ok(_),
        ) => id.to_string(),
        (Call::Read { .. } | Call::Write { .. }, Ok(count)) => count.to_string(),
        _ => "ok".to_string(),
    }
}

/// The error's name, of those that a socket may meet; else its number.
fn kind(error: &io::Error) -> String {
    const NAMES: [(Errno, &str); 15] = [
        (Errno::ACCESS, "EACCES"),
        (Errno::ADDRINUSE, "EADDRINUSE"),
        (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::CONNABORTED, "ECONNABORTED"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::HOSTUNREACH, "EHOSTUNREACH"),
        (Errno::INPROGRESS, "EINPROGRESS"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::NFILE, "ENFILE"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::PIPE, "EPIPE"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
    ];
    let errno = Errno::from_io_error(error);
    let known = NAMES.into_iter().find(|&(known, _)| Some(known) == errno);
    known.map_or_else(
        || {
            error
                .raw_os_error()
                .map_or("error".to_string(), |errno| format!("errno {errno}"))
        },
        |(_, name)| name.to_string(),
    )
}

/// What the result means, in the words of a tutorial.
fn meaning(call: &Call<'_>, result: Result<usize, &io::Error>) -> String {
    let blocked = result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    let text = match (call, result) {
        (Call::Accept { .. }, Err(_)) if blocked => "the waiting room is empty",
        (Call::Read { .. }, Err(_)) if blocked => "nothing more has come yet",
        (Call::Write { .. }, Err(_)) if blocked => "the kernel takes no more for now",
        (Call::Connect { .. }, Err(error))
            if Errno::from_io_error(error) == Some(Errno::INPROGRESS) =>
        {
            "a request is on its way to the server's queue"
        }
        (_, Err(error)) => return error.to_string().escape_debug().to_string(),
        (Call::Socket { .. }, Ok(_)) => "an endpoint, without an address yet",
        (Call::Bind { .. }, Ok(_)) => "it has its address",
        (Call::Listen { backlog }, Ok(_)) => {
            return format!("the doorkeeper is at the door; {backlog} may wait");
        }
        (Call::Connect { .. }, Ok(_)) => "connected at once",
        (Call::SocketError, Ok(_)) => "connected: in the server's queue, if not yet accepted",
        (Call::Accept { accepted }, Ok(_)) => {
            let peer = accepted.map_or(String::new(), |(peer, _)| format!(", {peer},"));
            return format!("the first in line{peer} is let in on a socket of its own");
        }
        (Call::Read { .. }, Ok(0)) => "the peer has ended: no more will come",
        (Call::Read { .. }, Ok(count)) => return format!("{count} bytes have come"),
        (Call::Write { length, .. }, Ok(count)) if count < *length => {
            return format!("the kernel takes {count} of {length}");
        }
        (Call::Write { .. }, Ok(count)) => return format!("{count} bytes are on their way"),
        (Call::Shutdown, Ok(_)) => "no more will come from this side",
        (Call::Close, Ok(_)) => "the socket is gone",
        _ => "",
    };
    text.to_string()
}
