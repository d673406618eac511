//! Ids: names of sources that name nothing once the source has closed.

use mio::Token;
use std::fmt;

/// An id is a [`Token`]: its low half is the slot, its high half the serial.
const HALF_BITS: u32 = usize::BITS / 2;
const LOW_HALF: usize = (1 << HALF_BITS) - 1;

/// The id of a listener, a connection, an outgoing connection or a watched source of one
/// [`Reactor`](crate::Reactor).
///
/// It is a slot in the reactor's slab and a serial number. A slot is used again; a serial is not,
/// until 2³² sources later (2¹⁶ where a `usize` has 32 bits). So an id that outlives its source names
/// nothing, and every call that takes it does nothing. Another reactor's id has no meaning here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(usize);

impl Id {
    /// The number of slots that an id can name. One is left out so that no id equals [`WAKER`].
    pub(crate) const SLOTS: usize = LOW_HALF;

    pub(crate) fn new(slot: usize, serial: u32) -> Id {
        debug_assert!(slot < Id::SLOTS);
        Id(((serial as usize & LOW_HALF) << HALF_BITS) | slot)
    }

    pub(crate) fn slot(self) -> usize {
        self.0 & LOW_HALF
    }

    pub(crate) fn serial(self) -> u32 {
        (self.0 >> HALF_BITS) as u32
    }

    pub(crate) fn token(self) -> Token {
        Token(self.0)
    }

    pub(crate) fn from_token(token: Token) -> Id {
        Id(token.0)
    }
}

/// Prints `slot.serial`, as in `3.17`.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.serial())
    }
}

/// Prints `Id(slot.serial)`.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// The token of the waker, which has no slot.
pub(crate) const WAKER: Token = Token(usize::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_token_and_never_meets_the_waker() {
        for slot in [0, 1, 4095, Id::SLOTS - 1] {
            for serial in [0, 1, LOW_HALF as u32] {
                let id = Id::new(slot, serial);
                assert_eq!(Id::from_token(id.token()), id);
                assert_eq!((id.slot(), id.serial()), (slot, serial));
                assert_ne!(id.token(), WAKER);
            }
        }
    }
}
