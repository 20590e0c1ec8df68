//! HTTP/2 with prior knowledge: which protocol a cleartext connection speaks.
//!
//! In: a connection that nothing was read from. Out: [`Protocol`], and the connection with what was read put back.

use std::cmp::Ordering;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::poll_read_scratch;

/// What a client of HTTP/2 sends first (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1, or nothing that we know; [`serve`](super::serve()) will say so to the client.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until the preface is there, or a byte that is not the preface's.
///
/// # Errors
/// `TimedOut` after `timeout`, `UnexpectedEof` if the client closed without a byte, and what the transport reports.
pub async fn sniff<Io>(mut io: Io, timeout: Duration) -> io::Result<(Protocol, Rewound<Io>)>
where
    Io: AsyncRead + Unpin,
{
    let mut read = BytesMut::new();
    let mut deadline = pin!(tokio::time::sleep(timeout));
    let protocol = loop {
        match protocol(&read) {
            Some(protocol) => break protocol,
            None => {
                let received = poll_fn(|context| match poll_read_scratch(&mut io, &mut read, context) {
                    Poll::Pending => deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
                    ready => ready,
                });
                match received.await? {
                    0 if read.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                    0 => break Protocol::Http1,
                    _ => {}
                }
            }
        }
    };
    Ok((protocol, Rewound { io, read: read.freeze() }))
}

fn protocol(read: &[u8]) -> Option<Protocol> {
    let length = read.len().min(HTTP2_PREFACE.len());
    match (read[..length] == HTTP2_PREFACE[..length], length.cmp(&HTTP2_PREFACE.len())) {
        (false, _) => Some(Protocol::Http1),
        (true, Ordering::Less) => None,
        (true, _) => Some(Protocol::Http2),
    }
}

/// A transport with bytes put back before what it still holds.
#[derive(Debug)]
pub struct Rewound<Io> {
    io: Io,
    read: Bytes,
}

impl<Io> Rewound<Io> {
    /// Puts `read` back before what `io` still holds.
    pub fn new(io: Io, read: Bytes) -> Self {
        Self { io, read }
    }

    /// The transport, and what of the bytes put back was not read again.
    pub fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.read)
    }

    /// The transport.
    pub fn inner(&self) -> &Io {
        &self.io
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Rewound<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..length]);
        self.read.advance(length);
        if self.read.is_empty() {
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Rewound<Io> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
