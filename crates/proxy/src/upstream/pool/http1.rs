//! HTTP/1.1 connections: one request at a time, the last one used is the first one used again.

use super::OpenConnection;
use crate::upstream::UpstreamOptions;
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::endpoints::Endpoint;
use crate::upstream::request_body::RequestBody;
use crate::worker::Worker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// The smallest buffer that hyper takes.
const MIN_BUFFER: usize = 8 * 1024;

/// One connection. Closed at once when it is dropped, whatever it is doing: a request that nobody waits for any more is not
/// sent to its end.
pub(crate) struct Sender {
    sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
}

impl Sender {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.sender.try_send_request(request).await
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The idle connections of one endpoint.
#[derive(Default)]
pub(crate) struct Idle(RefCell<Vec<(Sender, Instant)>>);

impl Idle {
    /// The one that was used last, if it still can be used.
    fn pop(&self, limit: Duration) -> Option<Sender> {
        let now = Instant::now();
        let mut idle = self.0.borrow_mut();
        for index in (0..idle.len()).rev() {
            let (sender, since) = idle.get(index)?;
            if now.duration_since(*since) > limit {
                // Those below have waited for longer still.
                idle.drain(..=index);
                return None;
            }
            if sender.is_closed() {
                idle.remove(index);
            } else if sender.sender.is_ready() {
                return Some(idle.remove(index).0);
            }
        }
        None
    }

    /// Closes those that waited for too long, or whose peer closed.
    pub(crate) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        self.0.borrow_mut().retain(|(sender, since)| !sender.is_closed() && now.duration_since(*since) <= limit);
    }

    /// Closes all.
    pub(crate) fn close(&self) {
        self.0.borrow_mut().clear();
    }
}

/// A connection, and whether it was used before.
pub(super) async fn take(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    fresh: bool,
) -> Result<(Sender, bool), ConnectError> {
    let options = &worker.upstreams.options;
    if !fresh && let Some(sender) = endpoint.idle.pop(options.idle_timeout) {
        worker.telemetry.upstream_connection_reused();
        return Ok((sender, true));
    }
    if options.max_connections_per_endpoint.is_some_and(|limit| endpoint.connections.get() >= limit) {
        return Err(ConnectError::TooMany);
    }
    let open = OpenConnection::new(worker, endpoint);
    let stream = connect(worker, endpoint).await?;
    // What is kept of a response, and so what its head may take.
    let max_buffer = (options.max_response_header_bytes as usize).max(MIN_BUFFER);
    let handshake = http1::Builder::new().max_buf_size(max_buffer).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|_| ConnectError::Failed(std::io::ErrorKind::Other))?;
    let task = tokio::task::spawn_local(async move {
        // What went wrong is told to the request that it went wrong for.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok((Sender { sender, task: task.abort_handle() }, false))
}

/// Takes a connection back. It may still be finishing its last exchange: [`Idle::pop`] looks.
pub(super) fn give_back(options: &UpstreamOptions, endpoint: &Endpoint, sender: Sender) {
    let mut idle = endpoint.idle.0.borrow_mut();
    if !sender.is_closed() && !endpoint.is_removed() && idle.len() < options.max_idle_per_endpoint {
        idle.push((sender, Instant::now()));
    }
}
