//! A key-value server that speaks the Redis protocol (RESP2): PING, ECHO, SET, GET, DEL, INCR, LPUSH
//! and LRANGE. `cargo run --example kv [ADDRESS]`, then `redis-cli -p 7379`.
//!
//! It shows requests of any size, pipelined. A command is consumed when it is there as a whole, so it
//! is read in place, and `want` makes the place for a long one. While replies wait to be sent, no further
//! command is executed: a client that does not read its replies is not read either.
//!
//! Two limits matter for large values. `input_max_bytes` must hold the largest command, because one that
//! never is whole is never executed; `output_hard_max_bytes` the largest reply beside what waits already.

use doorkeeper::frame::{Decoded, Lines};
use doorkeeper::{Config, Context, Handler, Reactor};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{Error, Result, Write};
use std::rc::Rc;

/// The largest command, in bytes: its arguments and their lengths.
pub(crate) const COMMAND_MAX: usize = 32 << 20;
/// The most arguments of a command.
const ARGUMENTS_MAX: usize = 1024;
/// The longest command that is one line, and the longest line with a number.
const LINE_MAX: usize = 1024;

enum Value {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
}

type Store = HashMap<Vec<u8>, Value>;

/// All clients have the same store, without a lock: all run on one thread.
#[derive(Clone, Default)]
pub(crate) struct Client(Rc<RefCell<Store>>);

impl Handler for Client {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let (mut rest, mut consumed) = (input, 0);
        // Without this, the replies to one piece of input could pass `output_hard_max_bytes`.
        while cx.room() > 0 {
            match command(&mut rest) {
                Ok(arguments) => execute(&mut self.0.borrow_mut(), &arguments, cx)?,
                Err(Stop::Incomplete(total)) => return cx.want(total).map(|()| consumed),
                Err(Stop::Wrong(what)) => {
                    write!(cx, "-ERR Protocol error: {what}\r\n")?;
                    cx.finish();
                    return Ok(input.len());
                }
            }
            consumed = input.len() - rest.len();
        }
        Ok(consumed)
    }
}

/// Why there is no command.
enum Stop {
    /// It has at least so many bytes.
    Incomplete(usize),
    Wrong(&'static str),
}

/// Takes one command from the front of the input: an array of bulk strings, or a line of words.
fn command<'a>(input: &mut &'a [u8]) -> std::result::Result<Vec<&'a [u8]>, Stop> {
    let whole = input.len();
    let first = line(input)?;
    let Some(count) = first.strip_prefix(b"*") else {
        let words = first.split(u8::is_ascii_whitespace);
        return Ok(words.filter(|word| !word.is_empty()).collect());
    };
    let count = number(count)
        .filter(|&count| count <= ARGUMENTS_MAX)
        .ok_or(Stop::Wrong("invalid multibulk length"))?;
    let mut arguments = Vec::with_capacity(count);
    for _ in 0..count {
        let length = line(input)?.strip_prefix(b"$");
        let length = number::<usize>(length.ok_or(Stop::Wrong("expected '$'"))?)
            .filter(|&length| length <= COMMAND_MAX.saturating_sub(whole - input.len()))
            .ok_or(Stop::Wrong("invalid bulk length"))?;
        let incomplete = Stop::Incomplete(whole - input.len() + length + 2);
        arguments.push(input.get(..length).ok_or(incomplete)?);
        *input = input.get(length + 2..).ok_or(Stop::Incomplete(0))?;
    }
    Ok(arguments)
}

fn line<'a>(input: &mut &'a [u8]) -> std::result::Result<&'a [u8], Stop> {
    match Lines::new(LINE_MAX).decode(input) {
        Ok(Decoded::Frame { payload, size }) => {
            *input = &input[size..];
            Ok(payload)
        }
        Ok(Decoded::Want(_)) => Err(Stop::Incomplete(0)),
        Err(_) => Err(Stop::Wrong("too big inline request")),
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

fn execute(store: &mut Store, arguments: &[&[u8]], out: &mut impl Write) -> Result<()> {
    let Some((name, arguments)) = arguments.split_first() else {
        return Ok(()); // An empty line is no command.
    };
    match (&name.to_ascii_uppercase()[..], arguments) {
        (b"PING", []) => out.write_all(b"+PONG\r\n"),
        (b"PING" | b"ECHO", [text]) => bulk(out, text),
        (b"SET", [key, value]) => {
            match store.get_mut(*key) {
                Some(Value::Text(text)) => (**value).clone_into(text),
                _ => _ = store.insert(key.to_vec(), Value::Text(value.to_vec())),
            }
            out.write_all(b"+OK\r\n")
        }
        (b"GET", [key]) => match store.get(*key) {
            None => out.write_all(b"$-1\r\n"),
            Some(Value::Text(text)) => bulk(out, text),
            Some(Value::List(_)) => write!(out, "-{WRONG_TYPE}\r\n"),
        },
        (b"DEL", [_, ..]) => {
            let removed = arguments.iter().filter(|key| store.remove(**key).is_some());
            write!(out, ":{}\r\n", removed.count())
        }
        (b"INCR", [key]) => integer(out, increment(store, key)),
        (b"LPUSH", [key, items @ ..]) if !items.is_empty() => integer(out, push(store, key, items)),
        (b"LRANGE", [key, first, last]) => range(store.get(*key), first, last, out),
        _ => out.write_all(b"-ERR unknown command, or wrong number of arguments\r\n"),
    }
}

fn increment(store: &mut Store, key: &[u8]) -> std::result::Result<i64, &'static str> {
    let value = store.entry(key.to_vec());
    let Value::Text(text) = value.or_insert(Value::Text(b"0".to_vec())) else {
        return Err(WRONG_TYPE);
    };
    let next = number::<i64>(text).and_then(|number| number.checked_add(1));
    let next = next.ok_or(NO_INTEGER)?;
    *text = next.to_string().into_bytes();
    Ok(next)
}

fn push(store: &mut Store, key: &[u8], items: &[&[u8]]) -> std::result::Result<i64, &'static str> {
    let value = store.entry(key.to_vec());
    let Value::List(list) = value.or_insert(Value::List(VecDeque::new())) else {
        return Err(WRONG_TYPE);
    };
    items.iter().for_each(|item| list.push_front(item.to_vec()));
    Ok(list.len() as i64)
}

/// The items from `first` to `last`; -1 is the last one of the list.
fn range(list: Option<&Value>, first: &[u8], last: &[u8], out: &mut impl Write) -> Result<()> {
    let list = match list {
        None => return out.write_all(b"*0\r\n"),
        Some(Value::List(list)) => list,
        Some(Value::Text(_)) => return write!(out, "-{WRONG_TYPE}\r\n"),
    };
    let (Some(first), Some(last)) = (number::<i64>(first), number::<i64>(last)) else {
        return write!(out, "-{NO_INTEGER}\r\n");
    };
    let length = list.len() as i64;
    let from_start = |index: i64| index.saturating_add(if index < 0 { length } else { 0 });
    let end = from_start(last).saturating_add(1).clamp(0, length);
    let start = from_start(first).clamp(0, end);
    write!(out, "*{}\r\n", end - start)?;
    let mut items = list.range(start as usize..end as usize);
    items.try_for_each(|item| bulk(out, item))
}

fn integer(out: &mut impl Write, result: std::result::Result<i64, &str>) -> Result<()> {
    match result {
        Ok(number) => write!(out, ":{number}\r\n"),
        Err(error) => write!(out, "-{error}\r\n"),
    }
}

fn bulk(out: &mut impl Write, text: &[u8]) -> Result<()> {
    write!(out, "${}\r\n", text.len())?;
    out.write_all(text)?;
    out.write_all(b"\r\n")
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7379".into());
    let mut config = Config::default();
    // The last line of a command is looked at before it counts.
    config.input_max_bytes = COMMAND_MAX + LINE_MAX + 2;
    config.output_hard_max_bytes = 2 * COMMAND_MAX;
    let mut reactor = Reactor::new(config)?;
    let client = Client::default();
    let id = reactor.listen(address.parse().map_err(Error::other)?, move |_| {
        Some(client.clone())
    })?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
