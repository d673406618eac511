//! Frames that end with a delimiter of any bytes, and the search for one.

use super::{Decoded, Error};
use std::io::BufRead;

/// Finds frames that end with a delimiter of any bytes: a NUL, `b"\r\n\r\n"`, the boundary of a message.
///
/// The first whole delimiter ends the frame; a delimiter may overlap itself, as `aab` does in `aaab`. The time for a frame is at
/// most its length times the delimiter's, which is meant to be short.
///
/// ```
/// use doorkeeper::frame::{Decoded, Delimited, Error};
///
/// let mut strings = Delimited::new(b"\0", 4);
/// assert_eq!(strings.decode(b"user\0pass"), Ok(Decoded::Frame { payload: b"user", size: 5 }));
/// assert_eq!(strings.decode(b"pass"), Ok(Decoded::Want(5)));
/// assert_eq!(strings.decode(b"password"), Err(Error::DelimiterMissing { max: 4 }));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Delimited<D> {
    delimiter: D,
    max: usize,
    search: Search,
}

impl<D: AsRef<[u8]>> Delimited<D> {
    /// Frames of at most `max` bytes, without the delimiter that ends each of them.
    pub const fn new(delimiter: D, max: usize) -> Delimited<D> {
        let search = Search::new();
        Delimited {
            delimiter,
            max,
            search,
        }
    }

    /// Looks for the first delimiter in `input`.
    ///
    /// # Errors
    /// [`Error::DelimiterMissing`] if the frame has more than the maximum of bytes, whether its delimiter is there or not;
    /// [`Error::DelimiterEmpty`], always, if the delimiter has no bytes.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, Error> {
        let delimiter = self.delimiter.as_ref();
        if delimiter.is_empty() {
            return Err(Error::DelimiterEmpty);
        }
        let longest = self.max.saturating_add(delimiter.len());
        let end = self.search.find(input, delimiter, longest);
        // Without a delimiter, the bytes that it may begin with are not counted as payload.
        let length = end.unwrap_or_else(|| input.len() - begun(input, delimiter));
        if length > self.max {
            return Err(Error::DelimiterMissing { max: self.max });
        }
        let size = length + delimiter.len();
        Ok(match end {
            Some(end) => Decoded::Frame {
                payload: &input[..end],
                size,
            },
            None => Decoded::Want(size),
        })
    }
}

/// How many bytes at the end of `input` may be the beginning of a delimiter.
fn begun(input: &[u8], delimiter: &[u8]) -> usize {
    let mut lengths = (1..delimiter.len()).rev();
    lengths
        .find(|&length| input.ends_with(&delimiter[..length]))
        .unwrap_or(0)
}

/// The search for a delimiter, which continues where the last input ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// No whole delimiter begins before this index of the input.
    searched: usize,
}

impl Search {
    pub(super) const fn new() -> Search {
        Search { searched: 0 }
    }

    /// Where the first whole `delimiter` begins, within the first `longest` bytes: pipelined input is not searched for the
    /// end of a frame that is too long already.
    pub(super) fn find(&mut self, input: &[u8], delimiter: &[u8], longest: usize) -> Option<usize> {
        let input = &input[..input.len().min(longest)];
        let start = std::mem::take(&mut self.searched);
        // Beyond the end, the bytes that were searched are gone: this input is a new one.
        let start = if start <= input.len() { start } else { 0 };
        let end = position(&input[start..], delimiter);
        if end.is_none() {
            self.searched = (input.len() + 1).saturating_sub(delimiter.len());
        }
        end.map(|end| start + end)
    }
}

/// Where the first whole `delimiter` begins.
fn position(input: &[u8], delimiter: &[u8]) -> Option<usize> {
    let (&first, rest) = delimiter.split_first()?;
    let mut start = 0;
    loop {
        start += position_of_byte(&input[start..], first)?;
        if input[start + 1..].starts_with(rest) {
            return Some(start);
        }
        start += 1;
    }
}

/// `skip_until` on a slice is memchr(3), which std does not offer otherwise: three to eight times as fast on long input as
/// `Iterator::position`. It does not fail on a slice.
fn position_of_byte(input: &[u8], byte: u8) -> Option<usize> {
    let mut rest = input;
    rest.skip_until(byte).ok()?;
    let looked_at = &input[..input.len() - rest.len()];
    looked_at.strip_suffix(&[byte]).map(<[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8], size: usize) -> Result<Decoded<'_>, Error> {
        Ok(Decoded::Frame { payload, size })
    }

    #[test]
    fn a_delimiter_that_overlaps_itself_is_found_at_its_first_place() {
        assert_eq!(Delimited::new("aab", 9).decode(b"aaabaab"), frame(b"a", 4));
        assert_eq!(Delimited::new("aa", 9).decode(b"aaaa"), frame(b"", 2));
        assert_eq!(Delimited::new("abab", 9).decode(b"aababab"), frame(b"a", 5));
    }

    #[test]
    fn a_delimiter_split_anywhere_is_found() {
        let mut frames = Delimited::new("aab", 1);
        assert_eq!(frames.decode(b""), Ok(Decoded::Want(3)));
        assert_eq!(frames.decode(b"a"), Ok(Decoded::Want(3)));
        assert_eq!(frames.decode(b"aa"), Ok(Decoded::Want(3)));
        assert_eq!(frames.decode(b"aaa"), Ok(Decoded::Want(4)));
        assert_eq!(frames.decode(b"aaab"), frame(b"a", 4));
    }

    #[test]
    fn a_frame_is_too_long_once_no_delimiter_can_begin_early_enough() {
        let decode = |input| Delimited::new(b"\r\n", 2).decode(input);
        let too_long = Err(Error::DelimiterMissing { max: 2 });
        assert_eq!(decode(b"ab\r"), Ok(Decoded::Want(4)));
        assert_eq!(decode(b"ab\r\n"), frame(b"ab", 4));
        assert_eq!(decode(b"ab\ra"), too_long);
        assert_eq!(decode(b"ab\ra\r\n"), too_long);
        assert_eq!(decode(b"abc\r\n"), too_long);
    }

    #[test]
    fn an_error_stays_while_the_input_does() {
        let mut frames = Delimited::new("ab", 2);
        for input in [&b"....."[..], b".....", b".....ab"] {
            let error = Error::DelimiterMissing { max: 2 };
            assert_eq!(frames.decode(input), Err(error));
        }
    }

    #[test]
    fn an_empty_delimiter_is_refused_instead_of_found_for_ever() {
        let mut frames = Delimited::new("", 9);
        assert_eq!(frames.decode(b""), Err(Error::DelimiterEmpty));
        assert_eq!(frames.decode(b"a"), Err(Error::DelimiterEmpty));
    }

    #[test]
    fn the_largest_maximum_does_not_overflow() {
        let mut frames = Delimited::new(vec![0], usize::MAX);
        assert_eq!(frames.decode(b"a"), Ok(Decoded::Want(2)));
        assert_eq!(frames.decode(b"a\0"), frame(b"a", 2));
    }

    /// A line of 1 MB in 1,000 pieces would otherwise be searched 1,000 times. Bytes that change after they were searched
    /// show what is not looked at again.
    #[test]
    fn what_was_searched_is_not_searched_again() {
        let mut frames = Delimited::new("ab", 9);
        assert_eq!(frames.decode(b"....a"), Ok(Decoded::Want(6)));
        assert_eq!(frames.decode(b".ab.abab"), frame(b".ab.", 6));
        assert_eq!(frames.decode(b".ab.ab"), frame(b".", 3), "a frame ends it");
    }

    #[test]
    fn a_shorter_input_is_a_new_one() {
        let mut frames = Delimited::new("a", 9);
        assert_eq!(frames.decode(b"...."), Ok(Decoded::Want(5)));
        assert_eq!(frames.decode(b".a."), frame(b".", 2));
    }

    #[test]
    fn pipelined_input_is_not_searched_beyond_the_longest_frame() {
        let mut search = Search::new();
        assert_eq!(search.find(b"....ab", b"ab", 5), None);
        assert_eq!(search.searched, 4);
    }
}
