//! Tunnels: what follows a 101 (Switching Protocols), such as WebSocket.
//!
//! In flow the client's and the backend's bytes; out flow the same bytes on the other side, until both have ended, nothing
//! moved for too long, or a drain is forced. One side's end is told to the other, which may go on.

use super::UpstreamOptions;
use super::pool::Lease;
use crate::connection::{Connection, Io};
use crate::record::{Flag, Record};
use crate::worker::Worker;
use std::cell::Cell;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies until the end. Ends the record and gives up the connections.
pub(crate) async fn tunnel(connection: Rc<Connection>, client: Box<dyn Io>, lease: Lease, mut record: Record) {
    let worker = record.worker().clone();
    let _counted = Counted::new(&worker);
    let Some((backend, place)) = lease.into_upgraded() else {
        record.flag(Flag::UpstreamFailure);
        return;
    };
    let traffic = Traffic::new();
    let mut client = Watched { io: client, traffic: traffic.clone(), is_client: true };
    let mut backend = Watched { io: backend, traffic: traffic.clone(), is_client: false };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut backend) => {}
        () = silence(&traffic, &worker.upstreams.options) => record.flag(Flag::RequestTimeout),
        () = connection.drain.forced() => record.flag(Flag::Drained),
    }
    record.set_request_bytes(traffic.from_client.get());
    record.add_response_bytes(traffic.from_backend.get());
    drop(place);
}

/// Waits until nothing has moved for as long as the options say.
async fn silence(traffic: &Traffic, options: &UpstreamOptions) {
    let Some(limit) = options.tunnel_idle_timeout else { return pending().await };
    loop {
        let last = traffic.last.get();
        tokio::time::sleep_until((last + limit).into()).await;
        if traffic.last.get() == last {
            return;
        }
    }
}

struct Traffic {
    last: Cell<Instant>,
    from_client: Cell<u64>,
    from_backend: Cell<u64>,
}

impl Traffic {
    fn new() -> Rc<Self> {
        Rc::new(Self { last: Cell::new(Instant::now()), from_client: Cell::new(0), from_backend: Cell::new(0) })
    }
}

/// Notes when bytes come, and how many.
struct Watched<T> {
    io: T,
    traffic: Rc<Traffic>,
    is_client: bool,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.io).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.traffic.last.set(Instant::now());
            let bytes = if self.is_client { &self.traffic.from_client } else { &self.traffic.from_backend };
            bytes.set(bytes.get() + count as u64);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        if matches!(result, Poll::Ready(Ok(_))) {
            self.traffic.last.set(Instant::now());
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Counts a tunnel as open.
struct Counted(Rc<Worker>);

impl Counted {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.telemetry.tunnel_opened();
        Self(worker.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.telemetry.tunnel_closed();
    }
}
