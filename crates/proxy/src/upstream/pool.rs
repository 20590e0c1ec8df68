//! Connections to endpoints, kept for the next request: one pool per worker and endpoint.
//!
//! In flows an endpoint; out flows a [`Lease`] of one of its connections, which goes back when the response has ended, and
//! is closed when it is dropped before. HTTP/1.1 connections serve one request at a time and wait in a stack; HTTP/2
//! connections are shared by as many requests as their peer allows.

pub(crate) mod http1;
pub(crate) mod http2;

use super::connect::ConnectError;
use super::endpoints::OpenRequest;
use super::request_body::RequestBody;
use crate::worker::Worker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use portcullis_model::BackendProtocol;
use std::rc::Rc;

/// The use of one connection for one request.
pub(crate) struct Lease {
    open: OpenRequest,
    connection: Connection,
    /// Whether the connection carried a request before: it may have been closed in the meantime.
    pub(crate) is_reused: bool,
}

enum Connection {
    Http1(http1::Sender),
    Http2(http2::Stream),
}

impl Lease {
    /// Takes a connection from the pool, or makes one. `fresh` leaves the pool aside.
    pub(crate) async fn take(worker: &Rc<Worker>, open: OpenRequest, fresh: bool) -> Result<Self, ConnectError> {
        let (connection, is_reused) = match open.endpoint().protocol {
            BackendProtocol::Http1 => {
                let (sender, reused) = http1::take(worker, open.endpoint(), fresh).await?;
                (Connection::Http1(sender), reused)
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
            Connection::Http1(sender) => sender.is_closed(),
            Connection::Http2(stream) => stream.is_closed(),
        }
    }

    /// Sends the request, and waits for the head of the response. An error that holds the request says that nothing of it
    /// was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.connection {
            Connection::Http1(sender) => sender.send(request).await,
            Connection::Http2(stream) => stream.send(request).await,
        }
    }

    /// Gives the connection back after a complete response.
    pub(crate) fn give_back(self, worker: &Worker) {
        if let Connection::Http1(sender) = self.connection {
            http1::give_back(&worker.upstreams.options, self.open.endpoint(), sender);
        }
    }
}

/// Counts a connection as open until it is dropped.
struct OpenConnection {
    worker: Rc<Worker>,
    endpoint: Rc<super::endpoints::Endpoint>,
}

impl OpenConnection {
    fn new(worker: &Rc<Worker>, endpoint: &Rc<super::endpoints::Endpoint>) -> Self {
        endpoint.connections.set(endpoint.connections.get() + 1);
        worker.telemetry.upstream_connection_opened();
        Self { worker: worker.clone(), endpoint: endpoint.clone() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.endpoint.connections.set(self.endpoint.connections.get().saturating_sub(1));
        self.worker.telemetry.upstream_connection_closed();
    }
}
