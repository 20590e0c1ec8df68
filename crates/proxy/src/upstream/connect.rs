//! A TCP connection to an endpoint.
//!
//! In flows an address; out flows a stream without Nagle's delay, or why there is none. Nothing was sent in that case,
//! so whoever asked may ask another endpoint. A stream whose other end takes nothing for too long fails: while nothing is
//! read of a client, its going away cannot be seen.

use super::UpstreamOptions;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Why there is no connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No answer in time.
    #[error("the endpoint did not answer in time")]
    Timeout,
    /// The endpoint, or the network on the way, refused.
    #[error("the connection failed: {0}")]
    Failed(io::ErrorKind),
    /// The limit of connections to one endpoint is reached.
    #[error("the limit of connections to the endpoint is reached")]
    TooMany,
    /// The endpoint is one of this process's own servers for operators.
    #[error("the endpoint is a server of this gateway for its operators")]
    Forbidden,
}

/// Connects within the time.
pub(crate) async fn connect(address: SocketAddr, options: &UpstreamOptions) -> Result<Stream, ConnectError> {
    if options.forbidden.iter().any(|forbidden| is_same_server(*forbidden, address)) {
        return Err(ConnectError::Forbidden);
    }
    let stream = match tokio::time::timeout(options.connect_timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ConnectError::Failed(error.kind())),
        Err(_) => return Err(ConnectError::Timeout),
    };
    // A stream on which this fails works all the same, only slower.
    let _ = stream.set_nodelay(true);
    Ok(Stream { tcp: stream, stall: None, limit: options.write_stall })
}

/// Whether a connection to `address` would reach a server that listens on `server`.
fn is_same_server(server: SocketAddr, address: SocketAddr) -> bool {
    if server.port() != address.port() {
        return false;
    }
    let (server, address) = (server.ip().to_canonical(), address.ip().to_canonical());
    if server == address || address.is_unspecified() {
        return true;
    }
    // Only an address of this machine can be bound; port 0 takes any free port.
    server.is_unspecified() && std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// A connection to an endpoint.
pub(crate) struct Stream {
    tcp: TcpStream,
    /// Runs while the other end takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    limit: Duration,
}

impl Stream {
    fn written(&mut self, result: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.stall = None;
            return result;
        }
        let limit = self.limit;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stall.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.written(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        self.written(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_servers_are_recognised_by_every_address_of_the_machine() {
        for (server, address, same) in [
            ("127.0.0.1:9090", "127.0.0.1:9090", true),
            ("127.0.0.1:9090", "127.0.0.1:9091", false),
            ("127.0.0.1:9090", "[::ffff:127.0.0.1]:9090", true),
            // Linux takes the unspecified address for this machine.
            ("127.0.0.1:9090", "0.0.0.0:9090", true),
            ("0.0.0.0:9090", "127.0.0.1:9090", true),
            ("[::]:9090", "127.0.0.2:9090", true),
            ("0.0.0.0:9090", "192.0.2.1:9090", false),
            ("127.0.0.1:9090", "127.0.0.2:9090", false),
        ] {
            let (server, address) = (server.parse().unwrap(), address.parse().unwrap());
            assert_eq!(is_same_server(server, address), same, "{server} {address}");
        }
    }
}
