//! What waits to be written: heads, small bodies and chunk framing gathered in one buffer, and at most one larger piece of
//! a body beside it, so that a small response is one write and a large one is not copied.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::chunk;

/// Pieces of a body up to this size are copied behind the head.
const COPIED_BYTES: usize = 4 * 1024;
/// With this much gathered, it is written before more is taken from the body.
const GATHERED_BYTES: usize = 16 * 1024;
const SPARE_BUFFERS: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    gathered: Vec<u8>,
    gathered_written: usize,
    data: Bytes,
    tail: &'static [u8],
    written: u64,
}

impl Output {
    /// The buffer to append to. Only while [`is_full`](Self::is_full) is false: what is appended goes before a larger piece.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.gathered.capacity() == 0 {
            self.gathered = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1024));
        }
        &mut self.gathered
    }

    /// Appends a piece of a body, as a chunk or as it is.
    pub(crate) fn push(&mut self, data: Bytes, chunked: bool) {
        let tail: &[u8] = if chunked { b"\r\n" } else { b"" };
        let is_small = data.len() <= COPIED_BYTES;
        let buffer = self.buffer();
        if chunked {
            chunk::write_size(buffer, data.len());
        }
        if is_small {
            buffer.extend_from_slice(&data);
            buffer.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// Whether it must be written before more is appended.
    pub(crate) fn is_full(&self) -> bool {
        !self.data.is_empty() || !self.tail.is_empty() || self.gathered.len() >= GATHERED_BYTES
    }

    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Bytes written so far, over the life of the connection.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes everything, with as few calls as the transport needs.
    pub(crate) fn poll_flush<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let slices = [&self.gathered[self.gathered_written..], &self.data, self.tail];
            // Empty slices in front would hide the others from a transport without vectored writes.
            let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or_default();
            let written = if slices[first + 1..].iter().all(|slice| slice.is_empty()) {
                ready!(Pin::new(&mut *io).poll_write(context, slices[first]))?
            } else {
                let slices = slices.map(IoSlice::new);
                ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices[first..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(io).poll_flush(context)
    }

    fn advance(&mut self, written: usize) {
        self.written += written as u64;
        let mut left = written;
        let gathered = left.min(self.gathered.len() - self.gathered_written);
        self.gathered_written += gathered;
        left -= gathered;
        if self.gathered_written == self.gathered.len() {
            self.gathered.clear();
            self.gathered_written = 0;
        }
        let data = left.min(self.data.len());
        self.data.advance(data);
        if self.data.is_empty() {
            self.data = Bytes::new();
        }
        self.tail = self.tail.get(left - data..).unwrap_or_default();
    }

    /// Gives the empty buffer to the next connection that needs one.
    pub(crate) fn release(&mut self) {
        if !self.is_empty() || self.gathered.capacity() == 0 {
            return;
        }
        let buffer = std::mem::take(&mut self.gathered);
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS && buffer.capacity() <= 2 * GATHERED_BYTES {
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Output;
    use bytes::Bytes;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[test]
    fn pieces_of_all_sizes_come_out_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for size in [1, 100, 4096, 4097, 70_000] {
                let (mut ours, mut theirs) = tokio::io::duplex(7);
                let reader = async {
                    let mut all = Vec::new();
                    theirs.read_to_end(&mut all).await.unwrap();
                    all
                };
                let writer = async {
                    let mut output = Output::default();
                    output.buffer().extend_from_slice(b"head");
                    output.push(Bytes::from(vec![b'x'; size]), true);
                    poll_fn(|context| output.poll_flush(&mut ours, context)).await.unwrap();
                    output.push(Bytes::from_static(b"end"), false);
                    poll_fn(|context| output.poll_flush(&mut ours, context)).await.unwrap();
                    assert!(output.is_empty() && !output.is_full());
                    output.release();
                    drop(ours);
                    output.written()
                };
                let (all, written) = tokio::join!(reader, writer);
                let expected = format!("head{size:x}\r\n{}\r\nend", "x".repeat(size));
                assert!(all == expected.as_bytes(), "{size}");
                assert_eq!(written, all.len() as u64);
            }
        });
    }
}
