//! The bytes that a bench sends, and compares the echo with.

use std::rc::Rc;

/// Limit of the bytes written or compared at once.
const CHUNK: usize = 64 * 1024;

const CACHE_LINE: usize = 64;

/// Cache lines after which the pattern repeats: a prime number. So successive requests differ, and
/// requests of a round size still begin at a cache line, where the kernel copies them faster.
const PERIOD_LINES: usize = 251;

/// A repeated text. Each connection begins at another offset, so that a server that mixes up
/// connections is noticed.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// The text, repeated for at least one chunk more.
    bytes: Rc<[u8]>,
    period: usize,
    /// Distance between the first bytes of two connections.
    step: usize,
}

/// Bytes without visible order.
fn noise(length: usize) -> Vec<u8> {
    // The linear congruential generator of Numerical Recipes; its high bits are random enough here.
    let next = |last: &u32| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next)
        .take(length)
        .map(|number| (number >> 24) as u8)
        .collect()
}

/// Lines of `size` bytes: a number as far as it fits, letters, and a newline.
fn lines(size: usize) -> Vec<u8> {
    let line = |number: usize| {
        let letters = number
            .to_string()
            .into_bytes()
            .into_iter()
            .chain((b'a'..=b'z').cycle());
        letters.take(size - 1).chain([b'\n'])
    };
    (0..(CHUNK / size).clamp(8, PERIOD_LINES))
        .flat_map(line)
        .collect()
}

impl Pattern {
    pub(crate) fn of_noise() -> Pattern {
        Pattern::new(&noise(PERIOD_LINES * CACHE_LINE), CACHE_LINE)
    }

    pub(crate) fn of_lines(size: usize) -> Pattern {
        Pattern::new(&lines(size), size)
    }

    /// Every connection begins at the begin of the text.
    pub(crate) fn of_text(text: &[u8]) -> Pattern {
        Pattern::new(text, 0)
    }

    fn new(text: &[u8], step: usize) -> Pattern {
        let repeated: Vec<u8> = text
            .iter()
            .copied()
            .cycle()
            .take(CHUNK + text.len())
            .collect();
        Pattern {
            bytes: repeated.into(),
            period: text.len(),
            step,
        }
    }

    /// The offset of the first byte of this connection.
    pub(crate) fn origin(&self, connection: usize) -> u64 {
        (connection % self.period * self.step % self.period) as u64
    }

    /// The bytes at this offset: `length` of them, but at most a chunk.
    pub(crate) fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % self.period as u64) as usize;
        &self.bytes[start..start + length.min(CHUNK)]
    }

    /// Whether the input is what stands at this offset. It compares period by period, so that the
    /// same part of the pattern stays in the nearest cache.
    pub(crate) fn matches(&self, mut offset: u64, input: &[u8]) -> bool {
        input.chunks(self.period.min(CHUNK)).all(|chunk| {
            let same = chunk == self.at(offset, chunk.len());
            offset += chunk.len() as u64;
            same
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Pattern};

    #[test]
    fn every_byte_of_a_long_input_is_compared() {
        for pattern in [Pattern::of_noise(), Pattern::of_lines(64)] {
            let offset = 1000;
            let mut input = pattern.at(offset, CHUNK).to_vec();
            assert_eq!(input.len(), CHUNK);
            assert!(pattern.matches(offset, &input));
            for place in (0..CHUNK).step_by(997).chain([CHUNK - 1]) {
                input[place] ^= 1;
                assert!(!pattern.matches(offset, &input), "byte {place}");
                input[place] ^= 1;
            }
        }
    }

    #[test]
    fn lines_repeat_after_a_chunk_of_them_within_limits() {
        for (size, lines) in [(1, 251), (100, 251), (1000, 65), (10_000, 8)] {
            let pattern = Pattern::of_lines(size);
            assert_eq!(pattern.period, size * lines, "{size}");
        }
    }

    #[test]
    fn connections_begin_at_different_places() {
        let pattern = Pattern::of_noise();
        let starts: Vec<&[u8]> = (0..100)
            .map(|n| pattern.at(pattern.origin(n), 16))
            .collect();
        for (n, start) in starts.iter().enumerate() {
            assert!(!starts[..n].contains(start), "connection {n}");
        }
    }
}
