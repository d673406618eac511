//! The bounded byte queue: output that the socket did not take, or input that the handler did not
//! consume.

use super::Places;

/// Bytes go in at the back and out at the front. The queue owns memory only while it holds bytes, and
/// never more than the limit that its caller passes.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    /// The bytes before this index are consumed. To move the rest forward each time would copy every
    /// byte many times.
    start: usize,
    /// The bytes from this index on are free for more.
    end: usize,
}

impl ByteQueue {
    pub(crate) const EMPTY: ByteQueue = ByteQueue {
        bytes: Vec::new(),
        start: 0,
        end: 0,
    };

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(feature = "sim")]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes as many of the bytes as fit below `limit`, and returns how many.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize) -> usize {
        let taken = bytes.len().min(limit.saturating_sub(self.len()));
        self.reserve(taken, limit);
        match self.bytes.get_mut(self.end..self.end + taken) {
            Some(place) => place.copy_from_slice(&bytes[..taken]),
            None => self.bytes.extend_from_slice(&bytes[..taken]),
        }
        self.end += taken;
        taken
    }

    /// Makes the buffer long enough for `total` bytes, so that they are not moved as they arrive.
    pub(crate) fn make_place(&mut self, total: usize, places: &Places) {
        if self.bytes.len() - self.start < total {
            let (mut bytes, end) = (places.take(total), self.len());
            bytes[..end].copy_from_slice(self.as_slice());
            *self = ByteQueue {
                bytes,
                start: 0,
                end,
            };
        }
    }

    /// Space for `count` more bytes. The buffer must be long enough.
    pub(crate) fn free(&mut self, count: usize) -> &mut [u8] {
        &mut self.bytes[self.end..self.end + count]
    }

    /// The first `count` bytes of [`free`](Self::free) were filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Consumes all bytes. The buffer is kept for others, if it is large.
    pub(crate) fn clear(&mut self, places: &Places) {
        places.give(std::mem::take(self).bytes);
    }

    /// Takes all of the bytes, which fit below `limit`, and leaves none. Many are not copied.
    pub(crate) fn append(&mut self, bytes: &mut Vec<u8>, limit: usize) {
        const MANY: usize = 128 * 1024;
        if self.is_empty() && bytes.len() >= MANY {
            let (start, end, bytes) = (0, bytes.len(), std::mem::take(bytes));
            *self = ByteQueue { bytes, start, end };
        } else {
            self.push(bytes, limit);
            bytes.clear();
        }
    }

    #[inline(never)]
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.is_empty() {
            *self = ByteQueue::default();
        }
    }

    /// Doubles the capacity as `Vec` does, but stops at the limit: a `Vec` by itself may own twice the
    /// limit.
    fn reserve(&mut self, extra: usize, limit: usize) {
        if self.end + extra <= self.bytes.len() {
            return;
        }
        self.bytes.truncate(self.end);
        if self.end + extra <= self.bytes.capacity() {
            return;
        }
        let length = self.len();
        self.bytes.copy_within(self.start.., 0);
        self.bytes.truncate(length);
        (self.start, self.end) = (0, length);
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
            let mut queue = ByteQueue::default();
            let mut model = VecDeque::new();
            let mut next = 0u8;
            for &(push, count) in &*steps {
                if push {
                    let bytes: Vec<u8> = (0..count as u8).map(|i| next + i).collect();
                    let taken = queue.push(&bytes, LIMIT);
                    assert_eq!(taken, count.min(LIMIT - model.len()));
                    model.extend(&bytes[..taken]);
                    next += count as u8;
                } else {
                    let count = count.min(model.len());
                    queue.consume(count);
                    model.drain(..count);
                }
                assert_eq!(queue.as_slice(), Vec::from(model.clone()));
                assert!(queue.bytes.capacity() <= LIMIT);
                assert!(!model.is_empty() || queue.bytes.capacity() == 0);
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

    #[test]
    fn many_bytes_are_not_copied_into_an_empty_queue_and_follow_what_another_holds() {
        for (held, count, is_moved) in [
            ("", 128 * 1024 - 1, false),
            ("", 128 * 1024, true),
            ("ab", 128 * 1024, false),
            ("ab", 2, false),
        ] {
            let mut queue = ByteQueue::default();
            queue.push(held.as_bytes(), 10);
            let mut bytes = vec![b'x'; count];
            let place = bytes.as_ptr();
            queue.append(&mut bytes, 1 << 20);
            assert!(bytes.is_empty());
            assert_eq!(queue.len(), held.len() + count);
            assert_eq!(&queue.as_slice()[..held.len()], held.as_bytes());
            assert_eq!(queue.as_slice().as_ptr() == place, is_moved);
        }
    }
}
