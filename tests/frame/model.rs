//! What the decoders of `doorkeeper::frame` answer, written in the most obvious way, and the check against it that the tests and
//! the fuzzer share.

use doorkeeper::frame::{Decoded, Delimited, Error, LengthPrefixed, Lines, Prefix};

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Lines,
    Delimited(Vec<u8>),
    Length(Prefix),
}

pub const PREFIXES: [Prefix; 8] = [
    Prefix::U8,
    Prefix::U16Be,
    Prefix::U16Le,
    Prefix::U32Be,
    Prefix::U32Le,
    Prefix::U64Be,
    Prefix::U64Le,
    Prefix::Varint,
];

/// A decoder of each kind under one name.
enum Decoder {
    Lines(Lines),
    Delimited(Delimited<Vec<u8>>),
    Length(LengthPrefixed),
}

impl Decoder {
    fn new(kind: &Kind, max: usize) -> Decoder {
        match kind {
            Kind::Lines => Decoder::Lines(Lines::new(max)),
            Kind::Delimited(delimiter) => {
                Decoder::Delimited(Delimited::new(delimiter.clone(), max))
            }
            Kind::Length(prefix) => Decoder::Length(LengthPrefixed::new(*prefix, max)),
        }
    }

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, Error> {
        match self {
            Decoder::Lines(lines) => lines.decode(input),
            Decoder::Delimited(delimited) => delimited.decode(input),
            Decoder::Length(length_prefixed) => length_prefixed.decode(input),
        }
    }
}

/// What a decoder must say of `input`, whatever it was offered before.
fn model<'a>(kind: &Kind, max: usize, input: &'a [u8]) -> Result<Decoded<'a>, Error> {
    match kind {
        Kind::Lines => ended(b"\n", input, |line| {
            let payload = line.strip_suffix(b"\r").unwrap_or(line);
            (payload.len() <= max)
                .then_some(payload.len())
                .ok_or(Error::LineTooLong { max })
        }),
        Kind::Delimited(delimiter) => ended(delimiter, input, |frame| {
            (frame.len() <= max)
                .then_some(frame.len())
                .ok_or(Error::DelimiterMissing { max })
        }),
        Kind::Length(prefix) => counted(*prefix, max, input),
    }
}

/// The first frame that ends with `delimiter`; without one, the shortest frame that more input can make of this.
fn ended<'a>(
    delimiter: &[u8],
    input: &'a [u8],
    payload: impl Fn(&[u8]) -> Result<usize, Error>,
) -> Result<Decoded<'a>, Error> {
    let find = |bytes: &[u8]| {
        let mut places = bytes.windows(delimiter.len());
        places.position(|place| place == delimiter)
    };
    if let Some(end) = find(input) {
        let payload = &input[..payload(&input[..end])?];
        let size = end + delimiter.len();
        return Ok(Decoded::Frame { payload, size });
    }
    // Whatever comes, a frame ends with the last bytes of the delimiter: the fewest that do it.
    let longer = (0..delimiter.len())
        .rev()
        .map(|from| [input, &delimiter[from..]].concat());
    let (end, whole) = longer
        .filter_map(|bytes| Some((find(&bytes)?, bytes)))
        .next()
        .unwrap();
    payload(&whole[..end])?;
    Ok(Decoded::Want(whole.len()))
}

/// The frame whose length stands before it.
fn counted(prefix: Prefix, max: usize, input: &[u8]) -> Result<Decoded<'_>, Error> {
    let (length, width): (u128, usize) = match (prefix, input) {
        (Prefix::U8, &[a, ..]) => (a.into(), 1),
        (Prefix::U16Be, &[a, b, ..]) => (u16::from_be_bytes([a, b]).into(), 2),
        (Prefix::U16Le, &[a, b, ..]) => (u16::from_le_bytes([a, b]).into(), 2),
        (Prefix::U32Be, &[a, b, c, d, ..]) => (u32::from_be_bytes([a, b, c, d]).into(), 4),
        (Prefix::U32Le, &[a, b, c, d, ..]) => (u32::from_le_bytes([a, b, c, d]).into(), 4),
        (Prefix::U64Be, &[a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([a, b, c, d, e, f, g, h]).into(), 8)
        }
        (Prefix::U64Le, &[a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_le_bytes([a, b, c, d, e, f, g, h]).into(), 8)
        }
        (Prefix::Varint, _) => match input.iter().position(|&byte| byte & 0x80 == 0) {
            Some(last) if last < 10 => {
                let septets = input[..=last].iter().enumerate();
                let value = septets.map(|(at, &byte)| u128::from(byte & 0x7f) << (7 * at));
                (value.sum(), last + 1)
            }
            _ if input.len() >= 10 => return Err(Error::VarintTooLong),
            _ => return Ok(Decoded::Want(input.len() + 1)),
        },
        (Prefix::U8, _) => return Ok(Decoded::Want(1)),
        (Prefix::U16Be | Prefix::U16Le, _) => return Ok(Decoded::Want(2)),
        (Prefix::U32Be | Prefix::U32Le, _) => return Ok(Decoded::Want(4)),
        (Prefix::U64Be | Prefix::U64Le, _) => return Ok(Decoded::Want(8)),
    };
    let length = u64::try_from(length).map_err(|_| Error::VarintTooLong)?;
    if length > max as u64 {
        return Err(Error::LengthTooLarge { length, max });
    }
    let size = width.saturating_add(length as usize);
    if input.len() < size {
        return Ok(Decoded::Want(size));
    }
    let payload = &input[width..size];
    Ok(Decoded::Frame { payload, size })
}

/// All that came of a stream: its frames, and how many bytes were left, or what was wrong.
pub type Outcome = (Vec<Vec<u8>>, Result<usize, Error>);

/// Offers `stream` to a decoder as a connection does, a piece more at a time, and compares every answer with the model's.
/// With `heed`, input is held back until as much is there as was wanted, or the stream is at its end.
pub fn offer<'a>(
    kind: &Kind,
    max: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
    heed: bool,
) -> Outcome {
    let mut decoder = Decoder::new(kind, max);
    let (mut frames, mut unconsumed, mut wanted) = (Vec::new(), Vec::new(), 0);
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        unconsumed.extend_from_slice(piece);
        if heed && unconsumed.len() < wanted && pieces.peek().is_some() {
            continue;
        }
        loop {
            let answer = decoder.decode(&unconsumed);
            let context = || format!("{kind:?}, at most {max}, {unconsumed:?}");
            assert_eq!(answer, model(kind, max, &unconsumed), "{}", context());
            match answer {
                Ok(Decoded::Frame { payload, size }) => {
                    assert!(payload.len() <= max && size > 0, "{}", context());
                    frames.push(payload.to_vec());
                    unconsumed.drain(..size);
                }
                Ok(Decoded::Want(total)) => {
                    let most = max.saturating_add(framing(kind));
                    assert!(total > unconsumed.len() && total <= most, "{}", context());
                    wanted = total;
                    break;
                }
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(unconsumed.len()))
}

/// How many bytes an ending or a prefix has at most.
fn framing(kind: &Kind) -> usize {
    match kind {
        Kind::Lines => 2,
        Kind::Delimited(delimiter) => delimiter.len(),
        Kind::Length(_) => Prefix::MAX_BYTES,
    }
}

/// What the fuzzer calls with arbitrary bytes. The first three choose the decoder, its maximum and the growth of the pieces; the
/// rest is the stream. Returns what came of it, or `None` if there are too few bytes.
pub fn check(bytes: &[u8]) -> Option<(Kind, Outcome)> {
    let [kind, max, piece, ref rest @ ..] = *bytes else {
        return None;
    };
    let (kind, stream) = match kind % 10 {
        0 => (Kind::Lines, rest),
        1 => {
            let (&length, rest) = rest.split_first()?;
            let (delimiter, stream) = rest.split_at_checked(1 + usize::from(length % 5))?;
            (Kind::Delimited(delimiter.to_vec()), stream)
        }
        2.. => (Kind::Length(PREFIXES[usize::from(kind % 10 - 2)]), rest),
    };
    let max = match max {
        0..=199 => usize::from(max),
        200..=249 => usize::MAX >> (max - 200),
        250.. => usize::MAX,
    };
    let step = match piece % 128 {
        0 => stream.len(),
        step => step.into(),
    };
    let outcome = offer(&kind, max, growing_pieces(stream, step), piece >= 128);
    assert_eq!(outcome, offer(&kind, max, std::iter::once(stream), false));
    if let Kind::Length(prefix) = kind {
        for frame in &outcome.0 {
            round_trip(prefix, max, frame);
        }
    }
    Some((kind, outcome))
}

/// Each piece is `step` bytes longer than the one before, so that several frames may come after a part of one.
fn growing_pieces(mut stream: &[u8], step: usize) -> impl Iterator<Item = &[u8]> {
    let mut size = 0;
    std::iter::from_fn(move || {
        size += step;
        let (piece, rest) = stream.split_at(size.min(stream.len()));
        stream = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn round_trip(prefix: Prefix, max: usize, payload: &[u8]) {
    let mut space = [0xee; Prefix::MAX_BYTES];
    let header = prefix.encode(payload.len(), &mut space).unwrap();
    let whole = [header, payload].concat();
    let size = whole.len();
    let answer = LengthPrefixed::new(prefix, max).decode(&whole);
    assert_eq!(answer, Ok(Decoded::Frame { payload, size }));
}
