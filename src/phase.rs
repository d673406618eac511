//! How far a conversation is: as a whole, and on either side.

/// How far the conversation is, seen from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    /// The peer has ended.
    Ended,
    /// And the handler was told.
    Told,
}

/// What the handler is to be told at the beginning of the next turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Due {
    #[default]
    Nothing,
    /// It has not met the connection yet.
    Open,
    /// All output left, in a turn whose budget was spent.
    Drain,
}
