//! A TCP connection to an endpoint.
//!
//! In flows an address; out flows a stream without Nagle's delay, or why there is none. Nothing was sent in that case,
//! so whoever asked may ask another endpoint. A stream whose other end takes nothing for too long fails: while nothing is
//! read of a client, its going away cannot be seen.

use super::UpstreamOptions;
use super::endpoints::Endpoint;
use super::guard::AddressClass;
use crate::worker::Worker;
use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
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
    /// The endpoint's address is one that no request is sent to.
    #[error("no request is sent to addresses of class {0}")]
    Forbidden(AddressClass),
}

/// Connects within the time, unless no request may be sent there.
pub(crate) async fn connect(worker: &Worker, endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    let (address, options) = (endpoint.address, &worker.upstreams.options);
    if let Some(class) = refusal(endpoint, options) {
        worker.telemetry.upstream_refused(class.as_str());
        if endpoint.mark_refused() {
            worker.upstreams.refusals.tell(endpoint, class);
        }
        return Err(ConnectError::Forbidden(class));
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

fn refusal(endpoint: &Endpoint, options: &UpstreamOptions) -> Option<AddressClass> {
    if options.forbidden.iter().any(|forbidden| is_same_server(*forbidden, endpoint.address)) {
        return Some(AddressClass::OwnServer);
    }
    endpoint.refusal(options.guard.as_ref()?)
}

/// Tells of refused endpoints in the program's log, at most once in a while: their number is somebody else's choice.
#[derive(Default)]
pub(crate) struct Refusals {
    told_at: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Refusals {
    const INTERVAL: Duration = Duration::from_secs(10);

    fn tell(&self, endpoint: &Endpoint, class: AddressClass) {
        let now = Instant::now();
        if self.told_at.get().is_some_and(|at| now.duration_since(at) < Self::INTERVAL) {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        self.told_at.set(Some(now));
        tracing::warn!(
            gateway = %endpoint.gateway(),
            address = %endpoint.address,
            %class,
            others = self.untold.take(),
            "an endpoint is not connected to: no request is sent to addresses of this class unless the class's GatewayParameters allow \
             it in upstreams.allowedAddresses"
        );
    }
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
    /// Whether there is something to read now: bytes, the end, or an error. Takes a byte away, and costs no system call where
    /// the event loop has heard of nothing.
    pub(crate) fn has_come_to_read(&self) -> bool {
        !matches!(self.tcp.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

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
