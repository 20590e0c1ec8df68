//! Frame headers (RFC 9113 section 4.1), found in a stream of bytes. Pure, without I/O.
//!
//! In flow the bytes of one direction, in pieces of any size; out flows the header of each frame. Nothing is checked or kept:
//! the `h2` crate reads the frames, this only counts them.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// RFC 9218 section 7.1.
pub(super) const PRIORITY_UPDATE: u8 = 16;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// Bytes of what a client sends before its first frame.
const PREFACE: usize = 24;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of its payload; of a DATA frame, without padding.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Where in the stream of bytes the next one stands.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// Bytes to pass over: the rest of the preface or of a payload.
    skip: usize,
    header: [u8; 9],
    header_length: usize,
    /// A DATA frame whose first payload byte is the length of its padding.
    padded: Option<Frame>,
    seen: bool,
}

impl FrameScanner {
    /// For what a client sends.
    pub(super) fn of_client() -> Self {
        Self { skip: PREFACE, ..Self::of_server() }
    }

    /// For what we send.
    pub(super) fn of_server() -> Self {
        Self { skip: 0, header: [0; 9], header_length: 0, padded: None, seen: false }
    }

    /// Whether a new frame may begin here.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.skip == 0 && self.header_length == 0 && self.padded.is_none()
    }

    /// Whether any frame was seen.
    pub(super) fn has_begun(&self) -> bool {
        self.seen
    }

    /// Calls `found` with each frame whose header ends in these bytes.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while let Some((first, rest)) = bytes.split_first() {
            if let Some(mut frame) = self.padded.take() {
                frame.length = frame.length.saturating_sub(u32::from(*first) + 1);
                found(frame);
                self.skip -= 1;
                bytes = rest;
                continue;
            }
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.header_length] = *first;
            self.header_length += 1;
            bytes = rest;
            if self.header_length == self.header.len() {
                self.header_length = 0;
                self.seen = true;
                let [a, b, c, kind, flags, d, e, f, g] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]);
                let frame = Frame { length, kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]) };
                self.skip = length as usize;
                if kind == DATA && frame.has(PADDED) && length > 0 {
                    self.padded = Some(frame);
                } else {
                    found(frame);
                }
            }
        }
    }
}

/// A GOAWAY frame with the error ENHANCE_YOUR_CALM (RFC 9113 sections 6.8 and 7).
pub(super) fn go_away(last_stream: u32) -> [u8; 17] {
    let mut frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b];
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(frame: Frame, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[frame.kind, frame.flags]);
        bytes.extend_from_slice(&frame.stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn padding_is_no_data() {
        let frame = Frame { length: 4, kind: DATA, flags: PADDED, stream: 1 };
        let mut found = Vec::new();
        let mut scanner = FrameScanner::of_server();
        scanner.scan(&bytes(frame, &[3, 0, 0, 0]), |frame| found.push(frame.length));
        scanner.scan(&bytes(frame, &[1, 7, 7, 0]), |frame| found.push(frame.length));
        scanner.scan(&bytes(frame, &[9, 0, 0, 0]), |frame| found.push(frame.length));
        assert_eq!(found, [0, 2, 0]);
        assert!(scanner.is_at_boundary());
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_frames(
            frames in prop::collection::vec((0u8..20, any::<u8>(), 0u32..1000, 0usize..80), 0..12),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let mut stream = vec![b'P'; PREFACE];
            let mut expected = Vec::new();
            for (kind, flags, id, length) in frames {
                let flags = flags & !PADDED;
                let frame = Frame { length: length as u32, kind, flags, stream: id };
                stream.extend_from_slice(&bytes(frame, &vec![0xff; length]));
                expected.push(frame);
            }
            let (mut scanner, mut found) = (FrameScanner::of_client(), Vec::new());
            let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                scanner.scan(piece, |frame| found.push(frame));
                rest = next;
            }
            prop_assert_eq!(found, expected);
            prop_assert!(scanner.is_at_boundary());
        }

        #[test]
        fn any_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..400)) {
            FrameScanner::of_client().scan(&stream, |_| {});
            FrameScanner::of_server().scan(&stream, |_| {});
        }
    }
}
