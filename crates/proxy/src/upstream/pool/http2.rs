//! HTTP/2 connections by prior knowledge: shared by requests, as many as the peer allows at a time.

use super::{ExchangeError, OpenConnection};
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::endpoints::Endpoint;
use crate::upstream::request_body::RequestBody;
use crate::worker::Worker;
use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The connections of one endpoint.
#[derive(Default)]
pub(crate) struct Connections {
    open: RefCell<Vec<Rc<Connection>>>,
    connecting: RefCell<Option<Rc<Connecting>>>,
}

struct Connection {
    sender: http2::SendRequest<RequestBody>,
    streams: Cell<usize>,
    /// What the peer's SETTINGS_MAX_CONCURRENT_STREAMS says now.
    limit: Rc<Cell<usize>>,
    last_used: Cell<Instant>,
}

/// A connection that is being made: those who come meanwhile wait for it rather than make their own.
#[derive(Default)]
struct Connecting {
    done: Notify,
    is_done: Cell<bool>,
    failure: Cell<Option<ConnectError>>,
}

/// One stream of a connection; its place is free again when this is dropped.
pub(crate) struct Stream {
    connection: Rc<Connection>,
    /// The body of the response, once there is one.
    incoming: Option<Incoming>,
}

impl Stream {
    fn new(connection: &Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection: connection.clone(), incoming: None }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.sender.is_closed()
    }

    pub(super) async fn send(
        &mut self,
        head: &http::request::Parts,
        body: RequestBody,
    ) -> Result<http::response::Parts, ExchangeError> {
        let mut sender = self.connection.sender.clone();
        let request = Request::from_parts(head.clone(), body);
        match sender.try_send_request(request).await {
            Ok(response) => {
                let (parts, incoming) = response.into_parts();
                self.incoming = Some(incoming);
                Ok(parts)
            }
            Err(mut error) => match error.take_message() {
                Some(_) => Err(ExchangeError::Unsent),
                None => Err(ExchangeError::Http2(error.into_error())),
            },
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        Pin::new(incoming).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(ExchangeError::Http2)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get().saturating_sub(1));
        self.connection.last_used.set(Instant::now());
    }
}

impl Connections {
    /// A stream on a connection that has room, or on the least busy one when no more may be opened.
    fn stream(&self, fresh: bool, may_open: bool) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.sender.is_closed());
        if fresh {
            return None;
        }
        let with_room = open.iter().find(|connection| connection.streams.get() < connection.limit.get().max(1));
        let chosen = with_room
            .or_else(|| if may_open { None } else { open.iter().min_by_key(|connection| connection.streams.get()) });
        chosen.map(Stream::new)
    }

    /// Closes connections without a stream that waited for too long.
    pub(crate) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        self.open.borrow_mut().retain(|connection| {
            let is_idle = connection.streams.get() == 0 && now.duration_since(connection.last_used.get()) > limit;
            !is_idle && !connection.sender.is_closed()
        });
    }

    /// Takes no new streams; connections end with their last stream.
    pub(crate) fn close(&self) {
        self.open.borrow_mut().clear();
    }
}

/// A stream, and whether its connection was there before.
pub(super) async fn take(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    mut fresh: bool,
) -> Result<(Stream, bool), ConnectError> {
    let options = &worker.upstreams.options;
    loop {
        let may_open = options.max_connections_per_endpoint.is_none_or(|limit| endpoint.connections.get() < limit);
        if let Some(stream) = endpoint.http2.stream(fresh, may_open) {
            worker.telemetry.upstream_connection_reused();
            return Ok((stream, true));
        }
        let connecting = endpoint.http2.connecting.borrow().clone();
        match connecting {
            Some(connecting) => {
                connecting.wait().await;
                if let Some(failure) = connecting.failure.get() {
                    return Err(failure);
                }
                // What was made since is fresh enough.
                fresh = false;
            }
            None if !may_open => return Err(ConnectError::TooMany),
            None => return Ok((open(worker, endpoint).await?, false)),
        }
    }
}

async fn open(worker: &Rc<Worker>, endpoint: &Rc<Endpoint>) -> Result<Stream, ConnectError> {
    let place = ConnectingPlace::new(endpoint);
    let result = handshake(worker, endpoint).await;
    match result {
        Ok(connection) => {
            let stream = Stream::new(&connection);
            if !endpoint.is_removed() {
                endpoint.http2.open.borrow_mut().push(connection);
            }
            Ok(stream)
        }
        Err(error) => {
            place.connecting.failure.set(Some(error));
            Err(error)
        }
    }
}

async fn handshake(worker: &Rc<Worker>, endpoint: &Rc<Endpoint>) -> Result<Rc<Connection>, ConnectError> {
    let options = &worker.upstreams.options;
    let open = OpenConnection::new(worker, endpoint);
    let stream = connect(worker, endpoint).await?;
    let handshake = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(options.http2_keep_alive_interval)
        .keep_alive_timeout(options.http2_keep_alive_timeout)
        .initial_stream_window_size(options.http2_stream_window)
        .initial_connection_window_size(options.http2_connection_window)
        .max_header_list_size(options.max_response_header_bytes)
        .max_send_buf_size(256 * 1024)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|_| ConnectError::Failed(std::io::ErrorKind::Other))?;
    let most = options.http2_streams_per_connection;
    let limit = Rc::new(Cell::new(connection.current_max_send_streams().min(most)));
    let told = limit.clone();
    tokio::task::spawn_local(async move {
        let mut connection = pin!(connection);
        // What went wrong is told to the requests that it went wrong for.
        let _ = poll_fn(|context| {
            let state = connection.as_mut().poll(context);
            told.set(connection.current_max_send_streams().min(most));
            state
        })
        .await;
        drop(open);
    });
    Ok(Rc::new(Connection { sender, streams: Cell::new(0), limit, last_used: Cell::new(Instant::now()) }))
}

impl Connecting {
    async fn wait(&self) {
        while !self.is_done.get() {
            self.done.notified().await;
        }
    }
}

/// Marks the attempt as under way; however it ends, the others are woken.
struct ConnectingPlace {
    endpoint: Rc<Endpoint>,
    connecting: Rc<Connecting>,
}

impl ConnectingPlace {
    fn new(endpoint: &Rc<Endpoint>) -> Self {
        let connecting = Rc::new(Connecting::default());
        *endpoint.http2.connecting.borrow_mut() = Some(connecting.clone());
        Self { endpoint: endpoint.clone(), connecting }
    }
}

impl Drop for ConnectingPlace {
    fn drop(&mut self) {
        *self.endpoint.http2.connecting.borrow_mut() = None;
        self.connecting.is_done.set(true);
        self.connecting.done.notify_waiters();
    }
}

/// Runs hyper's tasks on this worker.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(async move {
            future.await;
        }));
    }
}
