//! The bounded byte queue that holds what a socket would not take, or a handler not yet consume.

/// Bytes in, at the back; bytes out, at the front. It owns memory only while it holds bytes, and never more than the limit
/// its caller states.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// What lies before this was consumed. Moving the rest forward at every consumption would copy each byte many times.
    start: usize,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes as many of the bytes as fit below `limit`, and says how many.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize) -> usize {
        let taken = bytes.len().min(limit.saturating_sub(self.len()));
        self.make_room(taken, limit);
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            *self = Buffer::default();
        }
    }

    /// Doubles like `Vec`, but stops at the limit: a `Vec` left alone may own twice what it was allowed to hold.
    fn make_room(&mut self, extra: usize, limit: usize) {
        if self.bytes.len() + extra <= self.bytes.capacity() {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        let wanted = self.bytes.len() + extra;
        if wanted > self.bytes.capacity() {
            let capacity = wanted.next_power_of_two().min(limit.max(wanted));
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Every sequence of pushes and consumptions up to six steps, against the obvious model.
    #[test]
    fn every_short_sequence_keeps_order_and_limit() {
        const LIMIT: usize = 5;
        fn walk(steps: &mut Vec<(bool, usize)>) {
            let mut buffer = Buffer::default();
            let mut model = VecDeque::new();
            let mut next = 0u8;
            for &(push, count) in &*steps {
                if push {
                    let bytes: Vec<u8> = (0..count as u8).map(|i| next + i).collect();
                    let taken = buffer.push(&bytes, LIMIT);
                    assert_eq!(taken, count.min(LIMIT - model.len()));
                    model.extend(&bytes[..taken]);
                    next += count as u8;
                } else {
                    let count = count.min(model.len());
                    buffer.consume(count);
                    model.drain(..count);
                }
                assert_eq!(buffer.as_slice(), Vec::from(model.clone()));
                assert!(buffer.bytes.capacity() <= LIMIT);
                assert!(!model.is_empty() || buffer.bytes.capacity() == 0);
            }
            if steps.len() < 6 {
                for step in [(true, 1), (true, 2), (true, 7), (false, 1), (false, 3)] {
                    steps.push(step);
                    walk(steps);
                    steps.pop();
                }
            }
        }
        walk(&mut Vec::new());
    }
}
