//! Layers for tests.

use doorkeeper::Layer;
use std::io::{self, ErrorKind};

/// Every byte in another form, and nothing else.
pub struct Xor(pub u8);

impl Layer for Xor {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
        plain.extend(input.iter().map(|byte| byte ^ self.0));
        Ok(input.len())
    }

    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain.iter().map(|byte| byte ^ self.0));
        Ok(())
    }
}

/// What TLS has that matters here: a handshake, records, and an end of its own. Each side sends `HI` and is
/// open once it has that of the other. A record is two bytes of length and at most 1000 others in another
/// form; one of no bytes is the end.
#[derive(Default)]
pub struct Records {
    has_begun: bool,
    is_open: bool,
    has_ended: bool,
    /// How many records came in.
    pub records: usize,
}

impl Layer for Records {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> io::Result<usize> {
        if !std::mem::replace(&mut self.has_begun, true) {
            wire.extend(b"HI");
        }
        match input {
            [] | [_] => Ok(0),
            [b'H', b'I', ..] if !self.is_open => {
                self.is_open = true;
                Ok(2)
            }
            _ if !self.is_open => Err(io::Error::other("no greeting")),
            [0, 0, ..] => {
                self.has_ended = true;
                Ok(2)
            }
            [high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(record) = rest.get(..length) else {
                    return Ok(0);
                };
                self.records += 1;
                plain.extend(record.iter().map(|byte| byte ^ 0x5a));
                Ok(2 + length)
            }
        }
    }

    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        for record in plain.chunks(1000) {
            wire.extend((record.len() as u16).to_be_bytes());
            wire.extend(record.iter().map(|byte| byte ^ 0x5a));
        }
        Ok(())
    }

    fn end(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend([0, 0]);
        Ok(())
    }

    fn on_eof(&mut self) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::UnexpectedEof, "no end record"))
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
}
