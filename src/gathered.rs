//! What the callbacks of one turn wrote, until the turn sends it.

/// Bytes written straight from the input of the turn, as an echo does, are not copied, nor are those that live as long as the program:
/// they are sent from where they lie. All others are copied into a buffer that all connections share.
#[derive(Debug)]
pub(crate) struct Gathered<'a> {
    input: &'a [u8],
    /// What is sent from where it lies: the beginning of the input, or something static. While there is any, nothing is copied.
    lent: &'a [u8],
    copied: &'a mut Vec<u8>,
}

impl<'a> Gathered<'a> {
    /// `input`: what was read in this turn. `copied`: an empty buffer.
    pub(crate) fn new(input: &'a [u8], copied: &'a mut Vec<u8>) -> Gathered<'a> {
        Gathered {
            input,
            lent: &[],
            copied,
        }
    }

    pub(crate) fn input(&self) -> &'a [u8] {
        self.input
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lent.is_empty() && self.copied.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.lent.is_empty() {
            self.copied
        } else {
            self.lent
        }
    }

    /// Where bytes stand in memory tells whether they are the input's.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self.input.get(..self.lent.len() + bytes.len()) {
            Some(whole)
                if self.copied.is_empty()
                    && is_at(bytes, &whole[self.lent.len()..])
                    && is_at(self.lent, whole) =>
            {
                self.lent = whole;
            }
            _ => self.copy(bytes),
        }
    }

    pub(crate) fn push_static(&mut self, bytes: &'static [u8]) {
        if self.is_empty() {
            self.lent = bytes;
        } else {
            self.copy(bytes);
        }
    }

    #[inline(never)]
    fn copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.settle();
        self.copied.extend_from_slice(bytes);
    }

    /// Copies what is lent, for the input is about to be gone.
    pub(crate) fn settle(&mut self) {
        self.copied
            .extend_from_slice(std::mem::take(&mut self.lent));
    }

    pub(crate) fn clear(&mut self) {
        self.lent = &[];
        self.copied.clear();
    }
}

/// Whether the first stands where the second begins; nothing stands anywhere.
fn is_at(bytes: &[u8], place: &[u8]) -> bool {
    bytes.is_empty() || std::ptr::eq(bytes.as_ptr(), place.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sequence of four writes of any part of an input of three bytes, of bytes that are not in it, or of static ones, against
    /// a plain buffer.
    #[test]
    fn what_is_lent_reads_like_what_is_copied() {
        static STATIC: &[u8] = b"123";
        let (input, other) = (*b"abc", *b"xyz");
        let mut pieces: Vec<&[u8]> = vec![&other, &other[1..2], STATIC];
        (0..=3).for_each(|end| pieces.extend((0..=end).map(|start| &input[start..end])));
        for sequence in 0..pieces.len().pow(4) {
            let (mut copied, mut model) = (Vec::new(), Vec::new());
            let mut gathered = Gathered::new(&input, &mut copied);
            for step in 0..4 {
                let piece = pieces[sequence / pieces.len().pow(step) % pieces.len()];
                if piece == STATIC {
                    gathered.push_static(STATIC)
                } else {
                    gathered.push(piece)
                }
                model.extend_from_slice(piece);
                assert_eq!(gathered.as_slice(), model);
            }
            gathered.settle();
            assert_eq!(gathered.as_slice(), model);
            gathered.clear();
            assert!(gathered.as_slice().is_empty());
            assert!(copied.is_empty());
        }
    }

    #[test]
    fn an_echo_is_not_copied() {
        let (input, mut copied) = (*b"two lines\nof input\n", Vec::new());
        let mut gathered = Gathered::new(&input, &mut copied);
        input
            .split_inclusive(|&byte| byte == b'\n')
            .for_each(|line| gathered.push(line));
        gathered.push(b"");
        gathered.push_static(b"");
        assert_eq!(gathered.as_slice().as_ptr(), input.as_ptr());
        assert_eq!(gathered.as_slice(), input);
        assert!(copied.is_empty());
    }
}
