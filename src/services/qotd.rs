//! Quote of the day (RFC 865): one short quote.

use super::say::say;
use crate::{Context, Handler};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The RFC asks for fewer than 512 characters. Bytes are counted here, and a character has at least
/// one.
const MAX_BYTES: usize = 512;

const BUILT_IN: [&str; 4] = [
    "Be conservative in what you do, be liberal in what you accept from others.\r\n(Jon Postel, RFC 793)\r\n",
    "With sufficient thrust, pigs fly just fine. However, this is not necessarily a good idea.\r\n(RFC 1925)\r\n",
    "It is always possible to add another level of indirection.\r\n(RFC 1925)\r\n",
    "Perfection has been reached not when there is nothing left to add, but when there is nothing left to take away.\r\n(RFC 1925)\r\n",
];

/// A collection of quotes, which are sent in rotation. Clones share the collection and its
/// position.
#[derive(Clone, Debug)]
pub struct Quotes {
    quotes: Arc<[String]>,
    next: Arc<AtomicUsize>,
}

impl Quotes {
    /// The built-in quotes.
    pub fn built_in() -> Quotes {
        Quotes::from_list(BUILT_IN.map(String::from).to_vec())
    }

    /// Reads a file in the format of fortune(6): UTF-8 text, in which lines with a single `%`
    /// separate the quotes. Lines are sent with CR LF.
    ///
    /// # Errors
    /// Those of reading the file; `InvalidData` if it has no quote, or a quote of more than 512
    /// bytes, naming the line.
    pub fn read(path: &Path) -> io::Result<Quotes> {
        parse(&std::fs::read_to_string(path)?).map(Quotes::from_list)
    }

    fn from_list(quotes: Vec<String>) -> Quotes {
        Quotes {
            quotes: quotes.into(),
            next: Arc::default(),
        }
    }

    fn next(&self) -> &str {
        &self.quotes[self.next.fetch_add(1, Ordering::Relaxed) % self.quotes.len()]
    }
}

fn parse(text: &str) -> io::Result<Vec<String>> {
    let (mut quotes, mut quote, mut begin) = (Vec::new(), String::new(), 1);
    for (number, line) in text.lines().chain(["%"]).enumerate() {
        if line.trim_end() != "%" {
            quote.push_str(line.trim_end());
            quote.push_str("\r\n");
            continue;
        }
        let whole = std::mem::take(&mut quote);
        if whole.len() > MAX_BYTES {
            let long = whole.len();
            return Err(invalid(format!(
                "the quote at line {begin} has {long} bytes; {MAX_BYTES} is the most (RFC 865)"
            )));
        }
        if !whole.trim().is_empty() {
            quotes.push(whole);
        }
        begin = number + 2;
    }
    if quotes.is_empty() {
        Err(invalid("it holds no quote".to_string()))
    } else {
        Ok(quotes)
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Sends one quote and finishes.
#[derive(Clone, Debug)]
pub struct Qotd {
    quotes: Quotes,
}

impl Qotd {
    /// A handler that sends the next of these quotes.
    pub fn new(quotes: Quotes) -> Qotd {
        Qotd { quotes }
    }
}

impl Handler for Qotd {
    fn on_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        say(cx, self.quotes.next().as_bytes())
    }

    fn on_data(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        Ok(input.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_quote_fits() {
        assert!(
            BUILT_IN
                .iter()
                .all(|quote| quote.len() <= MAX_BYTES && quote.ends_with("\r\n"))
        );
    }

    #[test]
    fn a_file_of_quotes_is_split_at_percent_lines() {
        assert_eq!(
            parse("one\n%\ntwo\nlines\n%\n\n%\n").unwrap(),
            ["one\r\n", "two\r\nlines\r\n"]
        );
        assert_eq!(parse("alone").unwrap(), ["alone\r\n"]);
    }

    #[test]
    fn an_empty_file_and_a_long_quote_are_refused_by_name() {
        assert_eq!(
            parse("%\n%\n").unwrap_err().to_string(),
            "it holds no quote"
        );
        let long = format!("short\n%\n{}\n", "x".repeat(511));
        let message = parse(&long).unwrap_err().to_string();
        assert!(
            message.starts_with("the quote at line 3 has 513 bytes"),
            "{message}"
        );
        assert_eq!(parse(&"x".repeat(510)).unwrap()[0].len(), 512);
    }
}
