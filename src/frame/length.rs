//! Frames that begin with their length.

use super::{Decoded, Error};

/// How a length is written before a payload. It counts the payload alone, not itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// One byte.
    U8,
    /// Two bytes, the most significant first (network order).
    U16Be,
    /// Two bytes, the least significant first.
    U16Le,
    /// Four bytes, the most significant first (network order).
    U32Be,
    /// Four bytes, the least significant first.
    U32Le,
    /// Eight bytes, the most significant first (network order).
    U64Be,
    /// Eight bytes, the least significant first.
    U64Le,
    /// One to ten bytes: unsigned LEB128, seven bits a byte, the least significant first, and the highest bit set in all bytes
    /// but the last. This is Protocol Buffers' varint. As there, a length with more bytes than it needs is accepted, up to ten.
    Varint,
}

impl Prefix {
    /// The most bytes that any prefix has.
    pub const MAX_BYTES: usize = 10;

    /// Writes the prefix of a payload of `length` bytes into `space`, and returns the bytes to send before the payload. A
    /// varint takes the fewest bytes that it can.
    ///
    /// ```
    /// use doorkeeper::frame::{Error, Prefix};
    ///
    /// let mut space = [0; Prefix::MAX_BYTES];
    /// assert_eq!(Prefix::U16Be.encode(300, &mut space)?, [1, 44]);
    /// assert_eq!(Prefix::Varint.encode(300, &mut space)?, [0xac, 0x02]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LengthTooLarge`] if the prefix is too narrow for the length, with the largest length that it can say.
    pub fn encode(
        self,
        length: usize,
        space: &mut [u8; Prefix::MAX_BYTES],
    ) -> Result<&[u8], Error> {
        let length = length as u64;
        if self == Prefix::Varint {
            return Ok(encode_varint(length, space));
        }
        let width = self.least_bytes();
        let max = u64::MAX >> (u64::BITS as usize - 8 * width);
        if length > max {
            // It fits, because it is below a length that was a usize.
            let max = max as usize;
            return Err(Error::LengthTooLarge { length, max });
        }
        space[..8].copy_from_slice(&length.to_le_bytes());
        if self.is_big_endian() {
            space[..width].reverse();
        }
        Ok(&space[..width])
    }

    /// The length at the front of `input` and the bytes it takes, or `None` if it is not whole.
    fn decode(self, input: &[u8]) -> Result<Option<(u64, usize)>, Error> {
        if self == Prefix::Varint {
            return decode_varint(input);
        }
        let width = self.least_bytes();
        let Some(prefix) = input.get(..width) else {
            return Ok(None);
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(prefix);
        if self.is_big_endian() {
            bytes[..width].reverse();
        }
        Ok(Some((u64::from_le_bytes(bytes), width)))
    }

    const fn least_bytes(self) -> usize {
        match self {
            Prefix::U8 | Prefix::Varint => 1,
            Prefix::U16Be | Prefix::U16Le => 2,
            Prefix::U32Be | Prefix::U32Le => 4,
            Prefix::U64Be | Prefix::U64Le => 8,
        }
    }

    const fn is_big_endian(self) -> bool {
        matches!(self, Prefix::U16Be | Prefix::U32Be | Prefix::U64Be)
    }
}

fn encode_varint(length: u64, space: &mut [u8; Prefix::MAX_BYTES]) -> &[u8] {
    let (mut rest, mut last) = (length, 0);
    while rest >= 0x80 {
        space[last] = rest as u8 | 0x80;
        rest >>= 7;
        last += 1;
    }
    space[last] = rest as u8;
    &space[..=last]
}

fn decode_varint(input: &[u8]) -> Result<Option<(u64, usize)>, Error> {
    let mut value = 0;
    for (index, &byte) in input.iter().take(Prefix::MAX_BYTES).enumerate() {
        // Nine bytes have 63 bits. The tenth has one more, and none follows it.
        if index == 9 && byte > 1 {
            return Err(Error::VarintTooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((value, index + 1)));
        }
    }
    Ok(None)
}

/// Finds frames that begin with their length.
///
/// It has no state: `decode` depends on `input` alone.
///
/// ```
/// use doorkeeper::frame::{Decoded, Error, LengthPrefixed, Prefix};
///
/// let frames = LengthPrefixed::new(Prefix::U16Be, 1024);
/// assert_eq!(frames.decode(b"\0"), Ok(Decoded::Want(2)));
/// assert_eq!(frames.decode(b"\0\x05he"), Ok(Decoded::Want(7)));
/// assert_eq!(frames.decode(b"\0\x05hello..."), Ok(Decoded::Frame { payload: b"hello", size: 7 }));
/// let error = Error::LengthTooLarge { length: 65_535, max: 1024 };
/// assert_eq!(frames.decode(b"\xff\xff"), Err(error));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LengthPrefixed {
    prefix: Prefix,
    max: usize,
}

impl LengthPrefixed {
    /// Frames of at most `max` bytes, without the prefix before each of them.
    pub const fn new(prefix: Prefix, max: usize) -> LengthPrefixed {
        LengthPrefixed { prefix, max }
    }

    /// Reads the prefix that `input` begins with, and looks whether as many bytes follow.
    ///
    /// # Errors
    /// [`Error::LengthTooLarge`] as soon as the prefix is there, if it says more than the maximum;
    /// [`Error::VarintTooLong`] if a varint has more than ten bytes or more than 64 bits.
    pub fn decode<'a>(&self, input: &'a [u8]) -> Result<Decoded<'a>, Error> {
        let Some((length, prefix_bytes)) = self.prefix.decode(input)? else {
            let least = self.prefix.least_bytes().max(input.len() + 1);
            return Ok(Decoded::Want(least));
        };
        let max = self.max;
        if length > max as u64 {
            return Err(Error::LengthTooLarge { length, max });
        }
        // A length up to `max` fits a usize. Their sum may not, but then no slice is that long.
        let size = prefix_bytes.saturating_add(length as usize);
        Ok(match input.get(prefix_bytes..size) {
            Some(payload) => Decoded::Frame { payload, size },
            None => Decoded::Want(size),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: [(Prefix, usize); 7] = [
        (Prefix::U8, 1),
        (Prefix::U16Be, 2),
        (Prefix::U16Le, 2),
        (Prefix::U32Be, 4),
        (Prefix::U32Le, 4),
        (Prefix::U64Be, 8),
        (Prefix::U64Le, 8),
    ];

    fn frame(payload: &[u8], size: usize) -> Result<Decoded<'_>, Error> {
        Ok(Decoded::Frame { payload, size })
    }

    #[test]
    fn each_order_is_what_its_name_says() {
        let space = &mut [0; Prefix::MAX_BYTES];
        let mut encode = |prefix: Prefix| prefix.encode(0x2a, space).unwrap().to_vec();
        assert_eq!(encode(Prefix::U8), [0x2a]);
        assert_eq!(encode(Prefix::U16Be), [0, 0x2a]);
        assert_eq!(encode(Prefix::U16Le), [0x2a, 0]);
        assert_eq!(encode(Prefix::U32Be), [0, 0, 0, 0x2a]);
        assert_eq!(encode(Prefix::U32Le), [0x2a, 0, 0, 0]);
        assert_eq!(encode(Prefix::U64Be), [0, 0, 0, 0, 0, 0, 0, 0x2a]);
        assert_eq!(encode(Prefix::U64Le), [0x2a, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(Prefix::Varint), [0x2a]);
    }

    #[test]
    fn a_prefix_says_every_length_that_fits_and_no_larger_one() {
        for (prefix, width) in FIXED {
            let largest = (u64::MAX >> (64 - 8 * width)) as usize;
            for length in [0, 1, 0x7f, 0x80, largest / 3, largest] {
                let mut space = [0xee; Prefix::MAX_BYTES];
                let bytes = prefix.encode(length, &mut space).unwrap();
                assert_eq!(bytes.len(), width);
                assert_eq!(prefix.decode(bytes), Ok(Some((length as u64, width))));
            }
            if let Some(length) = largest.checked_add(1) {
                let error = Error::LengthTooLarge {
                    length: length as u64,
                    max: largest,
                };
                assert_eq!(
                    prefix.encode(length, &mut [0; Prefix::MAX_BYTES]),
                    Err(error)
                );
            }
        }
    }

    #[test]
    fn a_varint_is_that_of_protocol_buffers() {
        let known: [(u64, &[u8]); 6] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (
                1 << 63,
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
            ),
            (
                u64::MAX,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
        ];
        for (value, bytes) in known {
            assert_eq!(encode_varint(value, &mut [0xee; Prefix::MAX_BYTES]), bytes);
            assert_eq!(decode_varint(bytes), Ok(Some((value, bytes.len()))));
            for short in 0..bytes.len() {
                assert_eq!(decode_varint(&bytes[..short]), Ok(None));
            }
        }
    }

    #[test]
    fn a_varint_has_at_most_ten_bytes_and_64_bits() {
        let with_tenth = |tenth: u8| [&[0x80; 9][..], &[tenth, 0]].concat();
        assert_eq!(decode_varint(&with_tenth(0)), Ok(Some((0, 10))));
        assert_eq!(decode_varint(&with_tenth(1)), Ok(Some((1 << 63, 10))));
        for tenth in [2, 0x7f, 0x80, 0x81, 0xff] {
            assert_eq!(decode_varint(&with_tenth(tenth)), Err(Error::VarintTooLong));
        }
    }

    #[test]
    fn the_maximum_counts_the_payload_alone() {
        let frames = LengthPrefixed::new(Prefix::U8, 2);
        assert_eq!(frames.decode(b""), Ok(Decoded::Want(1)));
        assert_eq!(frames.decode(b"\0\x01"), frame(b"", 1));
        assert_eq!(frames.decode(b"\x02a"), Ok(Decoded::Want(3)));
        assert_eq!(frames.decode(b"\x02abc"), frame(b"ab", 3));
        let error = Error::LengthTooLarge { length: 3, max: 2 };
        assert_eq!(frames.decode(b"\x03"), Err(error));
        let none = LengthPrefixed::new(Prefix::Varint, 0);
        assert_eq!(none.decode(b"\0"), frame(b"", 1));
        assert_eq!(none.decode(b"\x80\0"), frame(b"", 2));
        let error = Error::LengthTooLarge { length: 1, max: 0 };
        assert_eq!(none.decode(b"\x01"), Err(error));
    }

    #[test]
    fn a_length_beyond_all_memory_is_wanted_without_overflow() {
        let mut space = [0; Prefix::MAX_BYTES];
        let bytes = Prefix::Varint.encode(usize::MAX, &mut space).unwrap();
        let frames = LengthPrefixed::new(Prefix::Varint, usize::MAX);
        assert_eq!(frames.decode(bytes), Ok(Decoded::Want(usize::MAX)));
        let frames = LengthPrefixed::new(Prefix::U64Be, u32::MAX as usize);
        let error = Error::LengthTooLarge {
            length: u64::MAX,
            max: u32::MAX as usize,
        };
        assert_eq!(frames.decode(&[0xff; 8]), Err(error));
    }
}
