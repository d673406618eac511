//! How far a conversation is: as a whole, and on either side.

/// How far the conversation is, seen from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handler has not met the connection yet.
    New,
    Open,
    /// The handler finished; its output is still leaving.
    Finishing,
    /// The FIN is sent; waiting for the peer's. `active` is when that began.
    Lingering,
}

/// What is known of the output side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Open,
    /// No more is taken; a FIN follows what is held.
    Ending,
    /// The FIN is sent.
    Ended,
}

/// What is known of the input side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Input {
    /// Nothing there; the next edge will tell.
    Empty,
    /// Something there; a short read means all of it was taken, and saves the read that would say WouldBlock.
    Ready,
    /// Something there in pieces, with no further edge to come: read until WouldBlock.
    Scattered,
    Eof,
}
