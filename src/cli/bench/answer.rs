//! What a server answers to a request, and where an answer ends.

use super::pattern::Pattern;

/// The answer to each request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The request itself.
    Echo,
    /// These bytes, so many of them.
    Text(Pattern, usize),
    /// So many bytes, whatever they are.
    Bytes(usize),
    /// Whatever comes, up to and with these bytes.
    Until(Delimiter),
}

/// How far one connection has read its answers.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Answers read.
    pub(crate) answers: u64,
    /// Bytes read.
    pub(crate) received: u64,
    /// Bytes of the delimiter that the last bytes match.
    matched: usize,
}

pub(crate) const WRONG_BYTES: &str = "other bytes came back than were sent";
const UNEXPECTED: &str = "other bytes came back than were expected";
const TOO_MUCH: &str = "more answers came back than were asked for";

impl Reading {
    /// Reads input. `requests` is the number of requests that are sent, wholly or in part, and
    /// `sent` the number of bytes of them.
    pub(crate) fn read(
        &mut self,
        answer: &Answer,
        request: (&Pattern, u64, usize),
        requests: u64,
        sent: u64,
        input: &[u8],
    ) -> Result<(), &'static str> {
        let end = self.received + input.len() as u64;
        let (pattern, origin, size) = request;
        let answers = match answer {
            Answer::Echo => {
                if end > sent || !pattern.matches(origin + self.received, input) {
                    return Err(WRONG_BYTES);
                }
                end / size as u64
            }
            Answer::Text(text, size) => {
                if !text.matches(self.received, input) {
                    return Err(UNEXPECTED);
                }
                check(end, requests, *size)?
            }
            Answer::Bytes(size) => check(end, requests, *size)?,
            Answer::Until(delimiter) => self.answers + delimiter.count(&mut self.matched, input),
        };
        if answers > requests {
            return Err(TOO_MUCH);
        }
        (self.answers, self.received) = (answers, end);
        Ok(())
    }
}

/// The number of whole answers of this size, if there are not more bytes than were asked for.
fn check(received: u64, requests: u64, size: usize) -> Result<u64, &'static str> {
    if received > requests * size as u64 {
        return Err(TOO_MUCH);
    }
    Ok(received / size as u64)
}

/// Bytes that end an answer, found in a stream (Knuth, Morris and Pratt), so that nothing of the
/// input is kept.
#[derive(Debug)]
pub(crate) struct Delimiter {
    bytes: Vec<u8>,
    /// Of each prefix, the length of the longest shorter prefix that is its end too.
    back: Vec<usize>,
}

impl Delimiter {
    /// `bytes` is not empty.
    pub(crate) fn new(bytes: Vec<u8>) -> Delimiter {
        let mut delimiter = Delimiter {
            back: vec![0; bytes.len()],
            bytes,
        };
        let mut matched = 0;
        for at in 1..delimiter.bytes.len() {
            matched = delimiter.step(matched, delimiter.bytes[at]);
            delimiter.back[at] = matched;
        }
        delimiter
    }

    /// How many bytes match after one more.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.bytes[matched] != byte {
            matched = self.back[matched - 1];
        }
        matched + usize::from(self.bytes[matched] == byte)
    }

    /// How often the delimiter ends in this input. `matched` is kept between two inputs.
    fn count(&self, matched: &mut usize, input: &[u8]) -> u64 {
        let mut found = 0;
        for &byte in input {
            *matched = self.step(*matched, byte);
            if *matched == self.bytes.len() {
                (found, *matched) = (found + 1, 0);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Delimiter;

    #[test]
    fn a_delimiter_is_found_however_the_input_is_cut() {
        for (bytes, input, wanted) in [
            ("\r\n", "one\r\ntwo\r\r\nthree\r", 2),
            ("\r\n\r\n", "a\r\nb\r\n\r\n\r\n\r\n", 2),
            ("aab", "aaab aab ab aaaab", 3),
            ("abab", "ababab", 1),
            ("x", "xxx", 3),
            ("ab", "axbab", 1),
        ] {
            let delimiter = Delimiter::new(bytes.as_bytes().to_vec());
            for piece in 1..=input.len() {
                let mut matched = 0;
                let pieces = input.as_bytes().chunks(piece);
                let found: u64 = pieces
                    .map(|piece| delimiter.count(&mut matched, piece))
                    .sum();
                assert_eq!(found, wanted, "{bytes:?} in {input:?} by {piece}");
            }
        }
    }
}
