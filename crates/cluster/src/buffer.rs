//! Bytes on their way in.

use zeroize::Zeroize;

/// Bytes that grow at the end and are taken from the front. Those of confidential objects are zeroed before they go.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// What has been taken.
    start: usize,
    confidential: bool,
}

impl Buffer {
    pub(crate) fn new(confidential: bool) -> Self {
        Self { bytes: Vec::new(), start: 0, confidential }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        let needed = self.len() + more.len();
        if self.bytes.len() + more.len() > self.bytes.capacity() {
            // A copy of our own in place of the allocator's, which would leave the old bytes behind.
            let mut bytes = Vec::with_capacity(needed.max(self.len() * 2).max(4096));
            bytes.extend_from_slice(self.as_slice());
            self.clean();
            self.bytes = bytes;
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// The length of the first line, its line feed included, if it is complete. Only bytes from `searched` on are looked
    /// at.
    pub(crate) fn line(&self, searched: usize) -> Option<usize> {
        memchr::memchr(b'\n', &self.as_slice()[searched..]).map(|end| searched + end + 1)
    }

    /// Takes bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.clean();
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    fn clean(&mut self) {
        if self.confidential {
            self.bytes.as_mut_slice().zeroize();
        }
    }
}

/// How much an empty buffer may keep for later.
const KEPT: usize = 64 << 10;

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clean();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let mut buffer = Buffer::new(true);
        let mut lines = Vec::new();
        for piece in ["a", "b\ncd\n", "", "\nlong ", "line\nrest"] {
            let searched = buffer.len();
            buffer.push(piece.as_bytes());
            let mut from = searched;
            while let Some(length) = buffer.line(from) {
                lines.push(String::from_utf8(buffer.as_slice()[..length].to_vec()).unwrap());
                buffer.consume(length);
                from = 0;
            }
        }
        assert_eq!(lines, ["ab\n", "cd\n", "\n", "long line\n"]);
        assert_eq!(buffer.as_slice(), b"rest");
        buffer.push(&vec![b'x'; 10_000]);
        assert_eq!((buffer.len(), &buffer.as_slice()[..6]), (10_004, &b"restxx"[..]));
    }
}
