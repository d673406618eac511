//! What every decoder returns.

/// The result of one look at the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame.
    Frame {
        /// The frame without its ending or prefix; it may be empty.
        payload: &'a [u8],
        /// How many bytes of the input the frame takes, with its ending or prefix. At least 1.
        size: usize,
    },
    /// The frame is not whole. It takes at least this many bytes, counted from the first byte of
    /// the input: more than are there, and at most the maximum and the ending or prefix.
    Want(usize),
}
