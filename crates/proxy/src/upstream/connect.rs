//! A TCP connection to an endpoint.
//!
//! In flows an address; out flows a stream without Nagle's delay, or why there is none. Nothing was sent in that case,
//! so whoever asked may ask another endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

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
}

/// Connects within the time.
pub(crate) async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
    let stream = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ConnectError::Failed(error.kind())),
        Err(_) => return Err(ConnectError::Timeout),
    };
    // A stream on which this fails works all the same, only slower.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}
