//! A layer that panics.

use doorkeeper::Layer;
use std::io;

/// Passes everything on, and panics when it is asked whether it is open, or when it is dropped.
pub enum Panics {
    Asked,
    Dropped,
}

impl Layer for Panics {
    fn read(&mut self, input: &[u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> io::Result<usize> {
        plain.extend(input);
        Ok(input.len())
    }

    fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        Ok(())
    }

    fn is_open(&self) -> bool {
        assert!(matches!(self, Panics::Dropped), "on purpose");
        true
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(matches!(self, Panics::Asked), "on purpose");
    }
}
