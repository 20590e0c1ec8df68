//! Connections to endpoints, kept for the next request: one pool per worker and endpoint.
//!
//! In flows an endpoint; out flows a [`Lease`] of one of its connections, which goes back when the response has ended, and
//! is closed when it is dropped before. HTTP/1.1 connections serve one request at a time and wait in a stack; HTTP/2
//! connections are shared by as many requests as their peer allows.

pub(crate) mod http1;
pub(crate) mod http2;

use super::connect::ConnectError;
use super::connect::Stream;
use super::endpoints::{Endpoint, OpenRequest};
use super::http1 as http1_connection;
use super::request_body::RequestBody;
use crate::http::h1::Rewound;
use crate::worker::Worker;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use portcullis_model::BackendProtocol;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

/// The use of one connection for one request; after [`Lease::send`], also the body of its response.
pub(crate) struct Lease {
    open: OpenRequest,
    connection: Connection,
    /// Whether the connection carried a request before: it may have been closed in the meantime.
    pub(crate) is_reused: bool,
}

enum Connection {
    Http1(http1_connection::Connection),
    Http2(http2::Stream),
}

/// Why an exchange with a backend failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// Nothing of the request was sent, nor any of its body touched.
    #[error("the connection was closed before the request was sent")]
    Unsent,
    /// HTTP/1.1.
    #[error(transparent)]
    Http1(http1_connection::Error),
    /// HTTP/2.
    #[error(transparent)]
    Http2(hyper::Error),
}

impl From<http1_connection::Error> for ExchangeError {
    fn from(error: http1_connection::Error) -> Self {
        match error {
            http1_connection::Error::Unsent => Self::Unsent,
            error => Self::Http1(error),
        }
    }
}

/// Counts the place of a connection that has become a tunnel.
pub(crate) struct TunnelPlace {
    _request: OpenRequest,
    _connection: OpenConnection,
}

impl Lease {
    /// Takes a connection from the pool, or makes one. `fresh` leaves the pool aside.
    pub(crate) async fn take(worker: &Rc<Worker>, open: OpenRequest, fresh: bool) -> Result<Self, ConnectError> {
        let (connection, is_reused) = match open.endpoint().protocol {
            BackendProtocol::Http1 => {
                let (connection, reused) = http1::take(worker, open.endpoint(), fresh).await?;
                (Connection::Http1(connection), reused)
            }
            BackendProtocol::H2c => {
                let (stream, reused) = http2::take(worker, open.endpoint(), fresh).await?;
                (Connection::Http2(stream), reused)
            }
        };
        Ok(Self { open, connection, is_reused })
    }

    /// Whether the other side is known to have closed.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.connection {
            Connection::Http1(connection) => connection.is_closed(),
            Connection::Http2(stream) => stream.is_closed(),
        }
    }

    /// Sends the request, and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        head: &http::request::Parts,
        body: RequestBody,
    ) -> Result<http::response::Parts, ExchangeError> {
        match &mut self.connection {
            Connection::Http1(connection) => Ok(connection.send(head, body).await?),
            Connection::Http2(stream) => stream.send(head, body).await,
        }
    }

    /// The next frame of the response's body.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match &mut self.connection {
            Connection::Http1(connection) => {
                connection.poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(ExchangeError::from)))
            }
            Connection::Http2(stream) => stream.poll_frame(context),
        }
    }

    /// Whether the response is complete.
    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.connection {
            Connection::Http1(connection) => connection.is_end_stream(),
            Connection::Http2(stream) => stream.is_end_stream(),
        }
    }

    /// How much of the response's body is left.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.connection {
            Connection::Http1(connection) => connection.size_hint(),
            Connection::Http2(stream) => stream.size_hint(),
        }
    }

    /// The rest of the response's body, if all of it has come already.
    pub(crate) fn take_received(&mut self) -> Option<Bytes> {
        match &mut self.connection {
            Connection::Http1(connection) => connection.take_received(),
            Connection::Http2(_) => None,
        }
    }

    /// After a 101: the connection's bytes.
    pub(crate) fn into_upgraded(self) -> Option<(Rewound<Stream>, TunnelPlace)> {
        match self.connection {
            Connection::Http1(connection) => {
                let (stream, open) = connection.into_upgraded()?;
                Some((stream, TunnelPlace { _request: self.open, _connection: open }))
            }
            Connection::Http2(_) => None,
        }
    }

    /// Gives the connection back after a complete response.
    pub(crate) fn give_back(self, worker: &Worker) {
        if let Connection::Http1(connection) = self.connection {
            http1::give_back(&worker.upstreams.options, self.open.endpoint(), connection);
        }
    }
}

/// Counts a connection as open until it is dropped. Idle connections are kept by what they are counted at, and so keep
/// neither.
pub(crate) struct OpenConnection {
    worker: Weak<Worker>,
    endpoint: Weak<Endpoint>,
}

impl OpenConnection {
    fn new(worker: &Rc<Worker>, endpoint: &Rc<Endpoint>) -> Self {
        endpoint.connections.set(endpoint.connections.get() + 1);
        worker.telemetry.upstream_connection_opened();
        Self { worker: Rc::downgrade(worker), endpoint: Rc::downgrade(endpoint) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.connections.set(endpoint.connections.get().saturating_sub(1));
        }
        if let Some(worker) = self.worker.upgrade() {
            worker.telemetry.upstream_connection_closed();
        }
    }
}
