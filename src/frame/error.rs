//! What can be wrong with a frame.

use std::fmt;
use std::io;

/// What is wrong with a frame, and what the limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A line is longer than `max` bytes without its LF or CR LF.
    LineTooLong {
        /// The maximum, in bytes.
        max: usize,
    },
    /// No delimiter follows after at most `max` bytes.
    DelimiterMissing {
        /// The maximum, in bytes.
        max: usize,
    },
    /// A payload has `length` bytes: more than the decoder's maximum, or more than a prefix of this width can say.
    LengthTooLarge {
        /// The length that the prefix has, or would have.
        length: u64,
        /// The maximum, in bytes.
        max: usize,
    },
    /// A varint has more than 10 bytes, or a value of more than 64 bits.
    VarintTooLong,
    /// A [`Delimited`](super::Delimited) was made with a delimiter of no bytes, which would be found everywhere.
    DelimiterEmpty,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::LineTooLong { max } => write!(f, "a line of more than {max} bytes"),
            Error::DelimiterMissing { max } => {
                write!(f, "a frame of more than {max} bytes before its delimiter")
            }
            Error::LengthTooLarge { length, max } => {
                write!(f, "a frame of {length} bytes; the maximum is {max}")
            }
            Error::VarintTooLong => f.write_str(
                "a varint of more than 64 bits; it has at most 10 bytes, the tenth at most 1",
            ),
            Error::DelimiterEmpty => f.write_str("an empty delimiter; it needs at least 1 byte"),
        }
    }
}

impl std::error::Error for Error {}

/// The kind is [`InvalidData`](io::ErrorKind::InvalidData), and [`get_ref`](io::Error::get_ref) gives the [`Error`].
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_what_is_wrong_and_the_limit() {
        let messages = [
            (
                Error::LineTooLong { max: 512 },
                "a line of more than 512 bytes",
            ),
            (
                Error::DelimiterMissing { max: 512 },
                "a frame of more than 512 bytes before its delimiter",
            ),
            (
                Error::LengthTooLarge {
                    length: 70_000,
                    max: 65_536,
                },
                "a frame of 70000 bytes; the maximum is 65536",
            ),
            (
                Error::VarintTooLong,
                "a varint of more than 64 bits; it has at most 10 bytes, the tenth at most 1",
            ),
            (
                Error::DelimiterEmpty,
                "an empty delimiter; it needs at least 1 byte",
            ),
        ];
        for (error, message) in messages {
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn it_converts_to_invalid_data_and_stays_inside() {
        let error = io::Error::from(Error::VarintTooLong);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().unwrap().downcast_ref::<Error>();
        assert_eq!(inner, Some(&Error::VarintTooLong));
    }
}
