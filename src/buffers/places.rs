//! Large buffers (places) for input, kept for the next message.

use std::cell::RefCell;

/// The lengths of the places that are kept. A smaller one costs little to allocate, and a larger one is too
/// much memory to keep.
const KEPT: std::ops::RangeInclusive<usize> = 128 * 1024..=2 << 20;
/// How many places are kept: 8 MiB of memory at most.
const KEPT_PLACES: usize = 4;

/// The places in which connections received a large message that its handler wanted as a whole. To
/// allocate one for each message costs more than to receive the message: the pages of a new one are
/// zeroed, by the kernel or by the allocator, and an allocator may give them back each time.
#[derive(Default)]
pub(crate) struct Places(RefCell<Vec<Vec<u8>>>);

impl Places {
    /// A place of at least `total` bytes.
    pub(crate) fn take(&self, total: usize) -> Vec<u8> {
        let mut places = self.0.borrow_mut();
        let last = match places.last() {
            Some(place) if place.len() >= total && total >= *KEPT.start() => places.pop(),
            _ => None,
        };
        last.unwrap_or_else(|| vec![0; total])
    }

    /// Keeps a place that is not used any more, if it is large.
    pub(crate) fn give(&self, place: Vec<u8>) {
        let mut places = self.0.borrow_mut();
        if place.len() >= *KEPT.start() && place.capacity() <= *KEPT.end() {
            places.truncate(KEPT_PLACES - 1);
            places.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_places_are_used_again_and_what_is_kept_is_bounded() {
        let (least, most) = (*KEPT.start(), *KEPT.end());
        let places = Places::default();
        let place = places.take(least);
        let address = place.as_ptr();
        places.give(place);
        let taken = [least + 1, least - 1, least].map(|total| places.take(total));
        let found = taken.each_ref().map(|place| place.as_ptr() == address);
        assert_eq!(found, [false, false, true]);
        assert_eq!(
            taken.map(|place| place.len()),
            [least + 1, least - 1, least]
        );
        places.give(vec![1; least - 1]);
        places.give(vec![1; most + 1]);
        assert!(places.0.take().is_empty());
        // Its length is not all that it owns.
        let mut longer = vec![1; most];
        longer.reserve_exact(1);
        places.give(longer);
        assert!(places.0.take().is_empty());
        (0..9).for_each(|_| places.give(vec![1; most]));
        assert_eq!(places.0.take().len(), KEPT_PLACES);
    }
}
