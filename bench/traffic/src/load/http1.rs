//! HTTP/1.1 with as little work as can be: the same bytes written again and again, one look at each head, bodies counted.
//!
//! What flows in: a connection, or how to open one for each unit. What flows out: a response for each request, or an error.

use super::shape::Work;
use super::tls::{self, Tls};
use super::{Client, Encryption, Target};
use crate::message::{Body, Heads, response};
use crate::scratch;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The request of a unit, head and body.
pub(super) fn request(work: &Work, server_name: &str) -> Bytes {
    let (sent, received) = (work.sent, work.received);
    let head = match sent {
        0 => format!("GET /bytes/{received} HTTP/1.1\r\nhost: {server_name}\r\n\r\n"),
        _ => format!("POST /bytes/{received} HTTP/1.1\r\nhost: {server_name}\r\ncontent-length: {sent}\r\n\r\n"),
    };
    [head.into_bytes(), vec![b'x'; sent]].concat().into()
}

/// A connection that stays.
pub(super) async fn connect(target: Target, tls: Encryption, request: Bytes, work: Work) -> Result<Vec<Kept>, String> {
    let stream = target.open().await?;
    let stream = match tls {
        Some(tls) => Stream::Tls(Box::new(tls.open(stream).await?)),
        None => Stream::Plain(stream),
    };
    Ok(vec![Kept { stream, request, received: work.received }])
}

/// A client with one connection.
pub(super) struct Kept {
    stream: Stream,
    request: Bytes,
    received: usize,
}

impl Client for Kept {
    async fn unit(&mut self) -> Result<(), String> {
        exchange(&mut self.stream, &self.request, self.received).await
    }
}

/// A client that opens a connection for each unit.
pub(super) async fn each_time(
    target: Target,
    tls: Arc<Tls>,
    resuming: bool,
    request: Bytes,
    work: Work,
) -> Result<Vec<EachTime>, String> {
    Ok(vec![EachTime { target, tls, resuming, first: true, request, received: work.received }])
}

pub(super) struct EachTime {
    target: Target,
    tls: Arc<Tls>,
    /// Whether each connection but the first must resume the one before.
    resuming: bool,
    first: bool,
    request: Bytes,
    received: usize,
}

impl Client for EachTime {
    async fn unit(&mut self) -> Result<(), String> {
        let mut stream = self.tls.open(self.target.open().await?).await?;
        let expected = self.resuming && !self.first;
        if tls::resumed(&stream) != expected {
            let what = if expected { "did not resume the one before" } else { "was resumed" };
            return Err(format!("a TLS connection {what}"));
        }
        exchange(&mut stream, &self.request, self.received).await?;
        self.first = false;
        stream.shutdown().await.map_err(|error| format!("closing a TLS connection: {error}"))
    }
}

async fn exchange<S>(stream: &mut S, request: &[u8], received: usize) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sent = async {
        stream.write_all(request).await?;
        // TLS may keep some of it back.
        stream.flush().await
    };
    sent.await.map_err(|error| format!("sending a request: {error}"))?;
    let mut heads = Heads::default();
    let mut body = None;
    loop {
        let read = scratch::read(stream, |bytes| take(bytes, &mut heads, &mut body, received));
        if read.await.map_err(|error| format!("reading a response: {error}"))?? {
            return Ok(());
        }
    }
}

/// Takes what was read of a response; whether it is complete.
fn take(bytes: &[u8], heads: &mut Heads, body: &mut Option<Body>, received: usize) -> Result<bool, String> {
    if bytes.is_empty() {
        return Err("the connection was closed before the response was complete".to_owned());
    }
    let mut rest = bytes;
    let body = match body {
        Some(body) => body,
        None => {
            let Some((length, head)) = heads.take(rest, response)? else { return Ok(false) };
            if head.status != 200 {
                return Err(format!("status {}", head.status));
            }
            if head.body != Body::Length(received) {
                return Err(format!("a response with {:?} where {received} bytes were asked for", head.body));
            }
            rest = &rest[length..];
            body.insert(head.body)
        }
    };
    let taken = body.take(rest)?;
    match taken == rest.len() {
        true => Ok(body.is_done()),
        false => Err("more came than the response".to_owned()),
    }
}

/// A connection with or without TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One of the two ways that a stream may be, pinned.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        either!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        either!(self, poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::{Heads, take};

    fn taken(pieces: &[&str], received: usize) -> Result<bool, String> {
        let (mut heads, mut body) = (Heads::default(), None);
        let mut done = false;
        for piece in pieces {
            done = take(piece.as_bytes(), &mut heads, &mut body, received)?;
        }
        Ok(done)
    }

    #[test]
    fn a_response_is_complete_or_wrong() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(taken(&[head, "ab", "cd"], 4), Ok(true));
        assert_eq!(taken(&[head, "ab"], 4), Ok(false));
        assert_eq!(taken(&["HTTP/1.1 200 OK\r\ncontent-", "length: 2\r\n\r\nab"], 2), Ok(true));
        assert!(taken(&[head, "ab", ""], 4).unwrap_err().contains("closed"));
        assert!(taken(&[head, "abcde"], 4).unwrap_err().contains("more"));
        assert!(taken(&[head], 5).unwrap_err().contains("5 bytes"));
        assert!(taken(&["HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n"], 4).unwrap_err().contains("502"));
    }
}
