//! HTTP/1.1 connections: one request at a time, the last one used is the first one used again.

use super::OpenConnection;
use crate::upstream::UpstreamOptions;
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::endpoints::Endpoint;
use crate::upstream::request_body::RequestBody;
use crate::worker::Worker;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One connection.
pub(crate) type Sender = http1::SendRequest<RequestBody>;

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
            } else if sender.is_ready() {
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

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
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
    let stream = connect(endpoint.address, options.connect_timeout).await?;
    let handshake = http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|_| ConnectError::Failed(std::io::ErrorKind::Other))?;
    tokio::task::spawn_local(async move {
        // What went wrong is told to the request that it went wrong for.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok((sender, false))
}

/// Takes a connection back. It may still be finishing its last exchange: [`Idle::pop`] looks.
pub(super) fn give_back(options: &UpstreamOptions, endpoint: &Endpoint, sender: Sender) {
    let mut idle = endpoint.idle.0.borrow_mut();
    if !sender.is_closed() && !endpoint.is_removed() && idle.len() < options.max_idle_per_endpoint {
        idle.push((sender, Instant::now()));
    }
}
