//! The bounded byte queue: output that the socket did not take, or input that the handler did not
//! consume.

/// Bytes go in at the back and out at the front. The queue owns memory only while it holds bytes, and
/// never more than the limit that its caller passes.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    /// The bytes before this index are consumed. To move the rest forward each time would copy every
    /// byte many times.
    start: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(feature = "sim")]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes as many of the bytes as fit below `limit`, and returns how many.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize) -> usize {
        let taken = bytes.len().min(limit.saturating_sub(self.len()));
        self.reserve(taken, limit);
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Makes place for `total` bytes at once, which are at most the limit of the queue.
    pub(crate) fn reserve_total(&mut self, total: usize) {
        self.reserve(total.saturating_sub(self.len()), total);
    }

    /// Takes all of the bytes, which fit below `limit`, and leaves none. Many are not copied.
    pub(crate) fn append(&mut self, bytes: &mut Vec<u8>, limit: usize) {
        const MANY: usize = 128 * 1024;
        if self.is_empty() && bytes.len() >= MANY {
            *self = ByteQueue {
                bytes: std::mem::take(bytes),
                start: 0,
            };
        } else {
            self.push(bytes, limit);
            bytes.clear();
        }
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            *self = ByteQueue::default();
        }
    }

    /// Doubles the capacity as `Vec` does, but stops at the limit: a `Vec` by itself may own twice the
    /// limit.
    fn reserve(&mut self, extra: usize, limit: usize) {
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
}
