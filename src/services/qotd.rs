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
    skipped: usize,
}

impl Quotes {
    /// The built-in quotes.
    pub fn built_in() -> Quotes {
        Quotes::from_list(BUILT_IN.map(String::from).to_vec(), 0)
    }

    /// Reads a file in the format of fortune(6): UTF-8 text, in which lines with a single `%`
    /// separate the quotes. Lines are sent with CR LF. A quote of more than 512 bytes is skipped
    /// and counted, because RFC 865 asks for fewer than 512 characters.
    ///
    /// # Errors
    /// Those of reading the file; `InvalidData` if it has no quote of at most 512 bytes.
    pub fn read(path: &Path) -> io::Result<Quotes> {
        let (quotes, skipped) = parse(&std::fs::read_to_string(path)?)?;
        Ok(Quotes::from_list(quotes, skipped))
    }

    fn from_list(quotes: Vec<String>, skipped: usize) -> Quotes {
        Quotes {
            quotes: quotes.into(),
            next: Arc::default(),
            skipped,
        }
    }

    /// The number of quotes, which is never 0.
    pub fn count(&self) -> usize {
        self.quotes.len()
    }

    /// The number of quotes that [`read`](Quotes::read) skipped, because they have more than 512
    /// bytes.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    fn next(&self) -> &str {
        &self.quotes[self.next.fetch_add(1, Ordering::Relaxed) % self.quotes.len()]
    }
}

/// The quotes, and the number of those that are too long.
fn parse(text: &str) -> io::Result<(Vec<String>, usize)> {
    let (mut quotes, mut quote, mut skipped) = (Vec::new(), String::new(), 0);
    for line in text.lines().chain(["%"]) {
        if line.trim_end() != "%" {
            quote.push_str(line.trim_end());
            quote.push_str("\r\n");
            continue;
        }
        let whole = std::mem::take(&mut quote);
        if whole.len() > MAX_BYTES {
            skipped += 1;
        } else if !whole.trim().is_empty() {
            quotes.push(whole);
        }
    }
    match (quotes.is_empty(), skipped) {
        (false, _) => Ok((quotes, skipped)),
        (true, 0) => Err(invalid("it holds no quote".to_string())),
        (true, _) => Err(invalid(format!(
            "it holds no quote of at most {MAX_BYTES} bytes (RFC 865)"
        ))),
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
        let quotes = |text: &str| parse(text).unwrap().0;
        assert_eq!(
            quotes("one\n%\ntwo\nlines\n%\n\n%\n"),
            ["one\r\n", "two\r\nlines\r\n"]
        );
        assert_eq!(quotes("alone"), ["alone\r\n"]);
    }

    #[test]
    fn a_long_quote_is_skipped_and_counted() {
        let long = "x".repeat(511);
        let text = format!("{long}\n%\nshort\n%\n{long}\n%\n{}", "y".repeat(510));
        let (quotes, skipped) = parse(&text).unwrap();
        assert_eq!((quotes.len(), skipped), (2, 2));
        assert_eq!((quotes[0].as_str(), quotes[1].len()), ("short\r\n", 512));
    }

    #[test]
    fn a_file_without_a_quote_is_refused() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(message("%\n%\n"), "it holds no quote");
        let long = "x".repeat(511);
        assert!(message(&long).starts_with("it holds no quote of at most 512 bytes"));
    }
}
