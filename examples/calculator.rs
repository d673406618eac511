//! A calculator: a line holds one calculation, as in `2 + 3`, and is answered by one line.
//! `cargo run --example calculator [ADDRESS]`.
//!
//! It shows framing. TCP carries bytes, not messages: one read may hold half a request, or many.
//! `on_data` consumes whole lines. The rest is offered again, before the new input. A line is
//! consumed only if there is room for its answer, so a peer that does not read its answers causes
//! no work. A line has a maximum length; without one, a peer could send a line that never ends.

use doorkeeper::{Config, Context, Handler, Reactor};
use std::io::{Error, Result};

/// The longest line, in bytes without its end.
const LINE_MAX: usize = 256;
/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = 64;

/// Answers each line that comes whole.
#[derive(Debug)]
pub struct Calculator;

impl Handler for Calculator {
    fn on_data(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize> {
        let mut consumed = 0;
        while cx.room() >= ANSWER_MAX {
            let rest = &input[consumed..];
            let line = rest.iter().position(|&byte| byte == b'\n');
            if line.unwrap_or(rest.len()) > LINE_MAX {
                cx.write(format!("error: a line has at most {LINE_MAX} bytes\n").as_bytes());
                cx.finish();
                return Ok(input.len());
            }
            let Some(length) = line else { break };
            cx.write(answer(&rest[..length]).as_bytes());
            consumed += length + 1;
        }
        Ok(consumed)
    }

    fn on_eof(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if cx.unread() > 0 {
            cx.write(b"error: the last line has no end\n");
        }
        cx.finish();
        Ok(())
    }
}

fn answer(line: &[u8]) -> String {
    match calculate(line) {
        Ok(value) => format!("{value}\n"),
        Err(problem) => format!("error: {problem}\n"),
    }
}

fn calculate(line: &[u8]) -> std::result::Result<i64, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "not text")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [left, operator, right] = words[..] else {
        return Err("write a sum as in: 2 + 3");
    };
    let number = |word: &str| {
        word.parse::<i64>()
            .map_err(|_| "not a whole number of 64 bits")
    };
    let (left, right) = (number(left)?, number(right)?);
    let value = match operator {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" if right == 0 => return Err("division by zero"),
        "/" => left.checked_div(right),
        _ => return Err("the operators are + - * /"),
    };
    value.ok_or("too large")
}

fn main() -> Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:7200".to_string());
    let mut reactor = Reactor::new(Config::default())?;
    let id = reactor.listen(address.parse().map_err(Error::other)?, |_| Some(Calculator))?;
    println!("listening {}", reactor.local_addr(id)?);
    reactor.run()
}
