//! One layer of a connection, and the bytes that are on their way through it.

use super::layer::Layer;
use crate::errno::failure;
use std::any::Any;
use std::io::{self, ErrorKind};

/// How many plain bytes are translated before their wire form is sent.
const BATCH: usize = 64 * 1024;

pub(crate) struct Level {
    layer: Box<dyn Layer>,
    limits: LevelLimits,
    /// What the layer did not consume.
    input: Vec<u8>,
    /// The plain bytes that it made. The level above, or the machine, has read the first `taken` of them.
    plain: Vec<u8>,
    taken: usize,
    /// Bytes on the wire that the level below has not taken.
    wire: Vec<u8>,
    /// How many plain bytes of output are in `wire`. They count as sent once all of `wire` is.
    accepted: usize,
    /// How long their wire form was when the layer made it.
    accepted_wire: usize,
    /// How many bytes of unsent output were written before the layer was added. They bypass it.
    before: usize,
    /// The layer was offered the input that was there when it was added.
    has_begun: bool,
    /// It was not offered all of `input`, because it had made enough: it may make more without a read below.
    is_full: bool,
    is_lowest: bool,
    /// The input of the level below has ended: for the lowest, the FIN was read.
    below_ended: bool,
    /// The input of this level has ended.
    ended: bool,
    /// `Layer::end` was called.
    end_written: bool,
    /// The error that a method of the layer returned. The caller gets `Other` in its place, so that the
    /// machine does not take it for an error of the socket.
    error: Option<io::Error>,
}

#[derive(Clone, Copy)]
pub(crate) struct LevelLimits {
    /// Input that the layer does not consume.
    pub(crate) input: usize,
    /// Bytes on the wire that the layer writes by itself.
    pub(crate) wire: usize,
}

impl Level {
    /// `input` is what the connection read and its handler did not consume, `before` how much it wrote
    /// that is not sent, and `below_ended` says that the FIN was read.
    pub(crate) fn new(
        layer: Box<dyn Layer>,
        limits: LevelLimits,
        input: Vec<u8>,
        before: usize,
        below_ended: bool,
    ) -> Level {
        Level {
            layer,
            limits,
            input,
            plain: Vec::new(),
            taken: 0,
            wire: Vec::new(),
            accepted: 0,
            accepted_wire: 0,
            before,
            has_begun: false,
            is_full: false,
            is_lowest: false,
            below_ended,
            ended: false,
            end_written: false,
            error: None,
        }
    }

    pub(super) fn set_lowest(&mut self) {
        self.is_lowest = true;
    }

    pub(crate) fn layer(&mut self) -> &mut dyn Any {
        (*self.layer).as_any()
    }

    /// True once the input of this layer and of those below it has ended. If the connection closed at the end
    /// of an upper layer alone, the ends of the others would come to a closed socket, and reset it.
    fn is_over(&self) -> bool {
        self.ended && (self.below_ended || self.is_lowest)
    }

    /// The error of the layer, if that is what failed.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn fail<R>(&mut self, error: io::Error) -> io::Result<R> {
        self.error = Some(error);
        Err(ErrorKind::Other.into())
    }

    /// True if output can be taken.
    pub(super) fn takes_output(&self) -> bool {
        self.before > 0 || self.layer.is_open()
    }

    /// True if bytes wait for the level below.
    pub(super) fn has_wire(&self) -> bool {
        self.before == 0 && !self.wire.is_empty()
    }

    /// True if a read returns something, perhaps the end, without one below.
    pub(super) fn has_plain(&self) -> bool {
        self.taken < self.plain.len() || self.is_full || self.is_over()
    }

    /// Reads plain bytes, after at most one read below. `Interrupted` if that gave none: the next turn
    /// tries again. `discards`: the handler finished, so input that ends within a message is no error.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        discards: bool,
        below: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.taken == self.plain.len() {
            self.fill(buffer, discards, below)?;
        }
        let plain = &self.plain[self.taken..];
        if plain.is_empty() {
            return match self.is_over() {
                true => Ok(0),
                false => Err(ErrorKind::Interrupted.into()),
            };
        }
        let count = plain.len().min(buffer.len());
        buffer[..count].copy_from_slice(&plain[..count]);
        self.taken += count;
        if self.taken == self.plain.len() {
            // An idle connection owns no buffer.
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        Ok(count)
    }

    fn fill(
        &mut self,
        buffer: &mut [u8],
        discards: bool,
        below: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if !self.has_begun || self.is_full {
            self.has_begun = true;
            self.decode(&[], buffer.len())?;
        }
        if !self.plain.is_empty() || self.is_over() {
            return Ok(());
        }
        let count = match self.below_ended {
            true => 0,
            false => below(buffer)?,
        };
        if self.ended {
            self.below_ended = count == 0;
            return Ok(());
        }
        if count > 0 {
            return self.decode(&buffer[..count], buffer.len());
        }
        (self.below_ended, self.ended) = (true, true);
        let open = self.layer.is_open();
        let result = match open && (discards || self.input.is_empty()) {
            true if discards => Ok(()),
            true => self.layer.on_eof(),
            false => Err(cut_short(open)),
        };
        result.or_else(|error| self.fail(error))
    }

    fn decode(&mut self, new: &[u8], enough: usize) -> io::Result<()> {
        let result = self.offer(new, enough);
        result.or_else(|error| self.fail(error))
    }

    /// Gives the layer its input until it has consumed all it can, or has made enough of it.
    fn offer(&mut self, new: &[u8], enough: usize) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(new);
        let (mut start, written) = (0, self.wire.len());
        loop {
            let rest = &input[start..];
            let consumed = self.layer.read(rest, &mut self.plain, &mut self.wire)?;
            if consumed > rest.len() {
                let message = format!("a layer consumed {consumed} bytes of {}", rest.len());
                return Err(failure(ErrorKind::Other, &message));
            }
            start += consumed;
            self.ended = self.layer.has_ended();
            self.is_full = self.plain.len() >= enough && start < input.len();
            if consumed == 0 || start == input.len() || self.ended || self.is_full {
                break;
            }
        }
        input.drain(..start);
        if !self.is_full && input.len() > self.limits.input {
            let (left, most) = (input.len(), self.limits.input);
            return Err(too_much("a layer left more input than", left, most));
        }
        if self.end_written {
            // Nothing follows the end.
            self.wire.truncate(written);
        }
        let own = self.wire.len().saturating_sub(self.accepted_wire);
        if own > self.limits.wire {
            let (left, most) = (own, self.limits.wire);
            return Err(too_much("the answers of a layer are more than", left, most));
        }
        if !input.is_empty() && !self.ended {
            self.input = input;
        }
        Ok(())
    }

    /// Takes output. Returns how many of its bytes the kernel has, in their wire form.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        below: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.before > 0 {
            let count = below(&bytes[..bytes.len().min(self.before)])?;
            self.before -= count;
            return Ok(count);
        }
        if !self.layer.is_open() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.accepted == 0 {
            let (batch, before) = (bytes.len().min(BATCH), self.wire.len());
            let result = self.layer.write(&bytes[..batch], &mut self.wire);
            result.or_else(|error| self.fail(error))?;
            (self.accepted, self.accepted_wire) = (batch, self.wire.len() - before);
        }
        match self.flush(below)? {
            true => Ok(std::mem::take(&mut self.accepted)),
            false => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what waits for the level below. True if nothing waits any more.
    pub(super) fn flush(
        &mut self,
        below: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        if self.before > 0 {
            return Ok(false);
        }
        if !self.wire.is_empty() {
            let count = match below(&self.wire) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    0
                }
                result => result?,
            };
            self.wire.drain(..count);
            if self.wire.is_empty() {
                (self.wire, self.accepted_wire) = (Vec::new(), 0);
            }
        }
        Ok(self.wire.is_empty())
    }

    /// Writes the end of this side. It waits until the layer is open.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if !self.layer.is_open() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if !std::mem::replace(&mut self.end_written, true) {
            let result = self.layer.end(&mut self.wire);
            return result.or_else(|error| self.fail(error));
        }
        Ok(())
    }
}

fn cut_short(open: bool) -> io::Error {
    let message = match open {
        true => "the peer ended within a message of the layer",
        false => "the peer ended before the layer was open",
    };
    failure(ErrorKind::UnexpectedEof, message)
}

fn too_much(what: &str, left: usize, most: usize) -> io::Error {
    let message = format!("{what} {most} bytes: {left}");
    failure(ErrorKind::InvalidData, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes as many bytes of a byte as it says, and takes one byte a call. It answers `ASK`, and never
    /// takes `STAY`.
    #[derive(Default)]
    struct Toy {
        taken: usize,
    }

    const STAY: u8 = 0;
    const ASK: u8 = 255;

    impl Layer for Toy {
        fn read(
            &mut self,
            input: &[u8],
            plain: &mut Vec<u8>,
            wire: &mut Vec<u8>,
        ) -> io::Result<usize> {
            match input.first() {
                None | Some(&STAY) => return Ok(0),
                Some(&ASK) => wire.push(b'!'),
                Some(&count) => plain.extend(std::iter::repeat_n(b'x', count.into())),
            }
            self.taken += 1;
            Ok(1)
        }

        fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
            wire.extend(plain);
            Ok(())
        }
    }

    fn level(input: usize, wire: usize, before: usize) -> Level {
        let limits = LevelLimits { input, wire };
        Level::new(Box::new(Toy::default()), limits, Vec::new(), before, false)
    }

    /// Reads ten bytes at most; this is what the level below has.
    fn read(level: &mut Level, below: &[u8]) -> io::Result<usize> {
        level.read(&mut [0; 10], false, |buffer| {
            assert!(!below.is_empty(), "the level below is read");
            buffer[..below.len()].copy_from_slice(below);
            Ok(below.len())
        })
    }

    /// The error of the layer, after a read that gives no bytes.
    fn error(level: &mut Level, below: &[u8]) -> Option<ErrorKind> {
        read(level, below).unwrap_err();
        level.take_error().map(|error| error.kind())
    }

    #[test]
    fn plain_input_that_is_left_is_there_without_a_read_below() {
        let mut level = level(100, 100, 0);
        for (below, count, is_left) in [
            (&[25][..], 10, true),
            (&[], 10, true),
            (&[], 5, false),
            (&[10], 10, false),
        ] {
            assert_eq!(read(&mut level, below).unwrap(), count);
            assert_eq!(level.has_plain(), is_left);
        }
    }

    #[test]
    fn a_layer_is_given_no_more_input_once_it_has_made_enough() {
        let mut level = level(100, 100, 0);
        for (below, count, taken, is_left) in
            [(&[10, 1, 1, 1][..], 10, 1, true), (&[], 3, 4, false)]
        {
            assert_eq!(read(&mut level, below).unwrap(), count);
            let toy = level.layer().downcast_mut::<Toy>().unwrap();
            assert_eq!(toy.taken, taken);
            assert_eq!(level.has_plain(), is_left);
        }
    }

    #[test]
    fn as_many_bytes_as_the_limit_are_left_or_answered_and_one_more_is_an_error() {
        for byte in [STAY, ASK] {
            let mut level = level(4, 4, 0);
            assert_eq!(error(&mut level, &[byte; 4]), None);
            let too_much = Some(ErrorKind::InvalidData);
            assert_eq!(error(&mut level, &[byte]), too_much);
        }
        // The output of the handler does not count.
        let mut level = level(10, 10, 0);
        assert_eq!(error(&mut level, &[ASK; 5]), None);
        level.write(&[b'x'; 5], |_| Ok(0)).unwrap_err();
        assert_eq!(error(&mut level, &[ASK; 5]), None);
        assert_eq!(error(&mut level, &[ASK]), Some(ErrorKind::InvalidData));
    }

    #[test]
    fn what_was_written_before_the_layer_goes_before_what_the_layer_writes() {
        let mut level = level(10, 10, 3);
        assert_eq!(error(&mut level, &[ASK]), None);
        assert!(!level.flush(|_| panic!("it overtakes")).unwrap());
        for (bytes, goes) in [(b"abcde", b"abc"), (b"cdefg", b"c")] as [(&[u8], &[u8]); 2] {
            let count = level.write(bytes, |below| {
                assert_eq!(below, goes);
                Ok(below.len().min(2))
            });
            assert_eq!(count.unwrap(), goes.len().min(2));
        }
        let flushed = level.flush(|below| {
            assert_eq!(below, b"!");
            Ok(1)
        });
        assert!(flushed.unwrap());
    }

    #[test]
    fn only_an_error_that_passes_is_no_error_of_a_flush() {
        let mut level = level(10, 10, 0);
        assert_eq!(error(&mut level, &[ASK]), None);
        for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
            assert!(!level.flush(|_| Err(kind.into())).unwrap());
        }
        let failed = level.flush(|_| Err(ErrorKind::BrokenPipe.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
