//! Frames that end with an LF or a CR LF.

use super::delimiter::Search;
use super::{Decoded, Error};

/// Finds lines: the bytes before an LF (`\n`) or a CR LF (`\r\n`).
///
/// The one CR directly before the LF belongs to the ending. Every other CR is part of the line: a CR alone ends nothing.
/// A protocol in which an LF alone must not end a line, as in SMTP (RFC 5321, 2.3.8), wants
/// [`Delimited`](super::Delimited) with `b"\r\n"`.
///
/// ```
/// use doorkeeper::frame::{Decoded, Error, Lines};
///
/// let mut lines = Lines::new(4);
/// assert_eq!(lines.decode(b"PIN"), Ok(Decoded::Want(4)));
/// assert_eq!(lines.decode(b"PING\r"), Ok(Decoded::Want(6)));
/// assert_eq!(lines.decode(b"PING\r\nGET"), Ok(Decoded::Frame { payload: b"PING", size: 6 }));
/// assert_eq!(lines.decode(b"HELLO"), Err(Error::LineTooLong { max: 4 }));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    max: usize,
    search: Search,
}

impl Lines {
    /// Lines of at most `max` bytes, without their ending.
    pub const fn new(max: usize) -> Lines {
        let search = Search::new();
        Lines { max, search }
    }

    /// Looks for the end of the first line of `input`.
    ///
    /// # Errors
    /// [`Error::LineTooLong`] if the line has more than the maximum of bytes, whether its end is there or not.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, Error> {
        let longest = self.max.saturating_add(b"\r\n".len());
        let end = self.search.find(input, b"\n", longest);
        let line = &input[..end.unwrap_or(input.len())];
        // Without an LF this CR counts as part of the ending, because the LF may be the next byte.
        let payload = line.strip_suffix(b"\r").unwrap_or(line);
        if payload.len() > self.max {
            return Err(Error::LineTooLong { max: self.max });
        }
        Ok(match end {
            Some(end) => Decoded::Frame {
                payload,
                size: end + 1,
            },
            None => Decoded::Want(input.len() + 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(payload: &[u8], size: usize) -> Result<Decoded<'_>, Error> {
        Ok(Decoded::Frame { payload, size })
    }

    #[test]
    fn one_cr_before_the_lf_belongs_to_the_ending() {
        let decode = |input| Lines::new(4).decode(input);
        assert_eq!(decode(b"\n"), line(b"", 1));
        assert_eq!(decode(b"\r\n"), line(b"", 2));
        assert_eq!(decode(b"\r\r\n"), line(b"\r", 3));
        assert_eq!(decode(b"a\rb\n\n"), line(b"a\rb", 4));
        assert_eq!(decode(b"\n\r"), line(b"", 1));
    }

    #[test]
    fn the_maximum_counts_neither_cr_nor_lf() {
        let decode = |input| Lines::new(2).decode(input);
        let too_long = Err(Error::LineTooLong { max: 2 });
        assert_eq!(decode(b"ab"), Ok(Decoded::Want(3)));
        assert_eq!(decode(b"ab\r"), Ok(Decoded::Want(4)));
        assert_eq!(decode(b"ab\r\n"), line(b"ab", 4));
        assert_eq!(decode(b"ab\n"), line(b"ab", 3));
        assert_eq!(decode(b"ab\r\r"), too_long);
        assert_eq!(decode(b"abc"), too_long);
        assert_eq!(decode(b"abc\n"), too_long);
        assert_eq!(decode(b"abc\r\n"), too_long);
    }

    #[test]
    fn a_maximum_of_nothing_leaves_empty_lines() {
        let decode = |input| Lines::new(0).decode(input);
        assert_eq!(decode(b""), Ok(Decoded::Want(1)));
        assert_eq!(decode(b"\r"), Ok(Decoded::Want(2)));
        assert_eq!(decode(b"\r\n"), line(b"", 2));
        assert_eq!(decode(b"a"), Err(Error::LineTooLong { max: 0 }));
    }

    #[test]
    fn the_largest_maximum_does_not_overflow() {
        let mut lines = Lines::new(usize::MAX);
        assert_eq!(lines.decode(b"a"), Ok(Decoded::Want(2)));
        assert_eq!(lines.decode(b"a\n"), line(b"a", 2));
    }
}
