//! Idle HTTP/1.1 connections: the last one used is the first one used again.

use super::OpenConnection;
use crate::upstream::UpstreamOptions;
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::endpoints::Endpoint;
use crate::upstream::http1::Connection;
use crate::worker::Worker;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The idle connections of one endpoint.
#[derive(Default)]
pub(crate) struct Idle(RefCell<Vec<(Connection, Instant)>>);

impl Idle {
    /// The one that was used last, if it still can be used.
    fn pop(&self, limit: Duration) -> Option<Connection> {
        let mut idle = self.0.borrow_mut();
        while let Some((connection, since)) = idle.pop() {
            if since.elapsed() > limit {
                // Those below have waited for longer still.
                idle.clear();
                return None;
            }
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes those that waited for too long, or whose peer closed.
    pub(crate) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        self.0
            .borrow_mut()
            .retain(|(connection, since)| now.duration_since(*since) <= limit && !connection.is_closed());
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
) -> Result<(Connection, bool), ConnectError> {
    let options = &worker.upstreams.options;
    if !fresh && let Some(connection) = endpoint.idle.pop(options.idle_timeout) {
        worker.telemetry.upstream_connection_reused();
        return Ok((connection, true));
    }
    if options.max_connections_per_endpoint.is_some_and(|limit| endpoint.connections.get() >= limit) {
        return Err(ConnectError::TooMany);
    }
    let open = OpenConnection::new(worker, endpoint);
    let stream = connect(worker, endpoint).await?;
    Ok((Connection::new(stream, options.max_response_header_bytes as usize, open), false))
}

/// Takes a connection back after an exchange, if another can follow.
pub(super) fn give_back(options: &UpstreamOptions, endpoint: &Endpoint, connection: Connection) {
    let mut idle = endpoint.idle.0.borrow_mut();
    if connection.is_reusable() && !endpoint.is_removed() && idle.len() < options.max_idle_per_endpoint {
        connection.release();
        idle.push((connection, Instant::now()));
    }
}
