//! The decoders of `doorkeeper::frame`, against a model: every short stream in every split, and the fuzzer's corpus.

#[path = "frame/model.rs"]
mod model;

use doorkeeper::frame::Prefix;
use model::{Kind, PREFIXES, check, offer};
use std::collections::BTreeSet;
use std::path::Path;

/// Every stream of at most `longest` bytes of this alphabet.
fn streams(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        let longer = last.iter().flat_map(|stream| {
            alphabet
                .iter()
                .map(move |&byte| [stream, &[byte][..]].concat())
        });
        last = longer.collect();
        all.extend_from_slice(&last);
    }
    all
}

/// The pieces of a stream that is cut behind each byte whose bit is set.
fn pieces(stream: &[u8], cuts: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for end in (1..stream.len()).filter(|end| cuts & (1 << (end - 1)) != 0) {
        pieces.push(&stream[from..end]);
        from = end;
    }
    pieces.push(&stream[from..]);
    pieces
}

/// Every split gives the same frames, and each answer on the way is the model's.
fn split_everywhere(kind: &Kind, max: usize, stream: &[u8]) {
    let whole = offer(kind, max, std::iter::once(stream), false);
    for cuts in 0..1 << stream.len().saturating_sub(1) {
        let pieces = pieces(stream, cuts);
        let outcome = offer(kind, max, pieces.iter().copied(), false);
        assert_eq!(outcome, whole, "{kind:?}, {max}, {pieces:?}");
        let outcome = offer(kind, max, pieces.iter().copied(), true);
        assert_eq!(outcome, whole, "{kind:?}, {max}, {pieces:?}, heeded");
    }
}

#[test]
fn lines_in_every_split() {
    for stream in streams(b"a\r\n", 6) {
        for max in 0..4 {
            split_everywhere(&Kind::Lines, max, &stream);
        }
    }
}

#[test]
fn every_short_delimiter_in_every_split() {
    let delimiters = streams(b"ab", 3).into_iter().skip(1);
    let overlapping = [b"abab".to_vec(), b"aabaa".to_vec()];
    for delimiter in delimiters.chain(overlapping) {
        let kind = Kind::Delimited(delimiter);
        for stream in streams(b"ab", 6) {
            for max in [0, 1, 3] {
                split_everywhere(&kind, max, &stream);
            }
        }
    }
}

#[test]
fn every_prefix_in_every_split() {
    for prefix in PREFIXES {
        for stream in streams(&[0, 1, 2, 0x80], 5) {
            for max in [0, 1, 300] {
                split_everywhere(&Kind::Length(prefix), max, &stream);
            }
        }
    }
}

#[test]
fn wide_prefixes_in_every_split() {
    for (prefix, width) in [
        (Prefix::U32Be, 4),
        (Prefix::U32Le, 4),
        (Prefix::U64Be, 8),
        (Prefix::U64Le, 8),
    ] {
        for at in 0..width {
            for tail in streams(&[0, 2], 2) {
                let mut stream = vec![0; width];
                stream[at] = 2;
                stream.extend(tail);
                for max in [0, 2, 1 << 20, usize::MAX] {
                    split_everywhere(&Kind::Length(prefix), max, &stream);
                }
            }
        }
    }
}

#[test]
fn the_longest_varints_in_every_split() {
    for ninth in [0, 0x80, 0xff] {
        for tail in streams(&[0, 1, 2, 0x80, 0xff], 2) {
            let stream = [&[0x80; 8][..], &[ninth], &tail].concat();
            for max in [0, usize::MAX] {
                split_everywhere(&Kind::Length(Prefix::Varint), max, &stream);
            }
        }
    }
}

/// Every file of the corpus goes through the function that the fuzzer calls. Each decoder has frames, a frame under way and an
/// error among them; else the corpus would show little.
#[test]
fn the_corpus_of_the_fuzzer_finds_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        if let Some((kind, (frames, end))) = check(&bytes) {
            let kind = match kind {
                Kind::Delimited(_) => "Delimited".to_string(),
                kind => format!("{kind:?}"),
            };
            seen.extend((!frames.is_empty()).then(|| (kind.clone(), "frames")));
            seen.insert(match end {
                Ok(0) => (kind, "nothing left"),
                Ok(_) => (kind, "under way"),
                Err(_) => (kind, "wrong"),
            });
        }
    }
    let decoders = 2 + PREFIXES.len();
    assert_eq!(seen.len(), 4 * decoders, "{seen:?}");
}
