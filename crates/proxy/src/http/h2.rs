//! HTTP/2 towards clients: hyper, behind budgets for each kind of frame.
//!
//! In flows a connection that begins with the preface; out flow requests for [`crate::route::handle`], each in a task of its
//! own. Between the connection and hyper stands `io`, which counts frames of both directions (`frames`, `budget`): a client
//! that only makes work is told ENHANCE_YOUR_CALM and is gone. A request that is ambiguous (`head`) gets the answer that
//! HTTP/1.1 gives; what the `h2` crate finds malformed is reset by it, before anything here sees it.
//!
//! CONNECT and extended CONNECT (RFC 8441) are not offered. One connection stays on one worker.

mod body;
mod budget;
mod frames;
mod head;
mod io;
mod stream;

pub(crate) use body::RequestBody;
pub(crate) use budget::Budget;

use crate::body::Body;
use crate::connection::{Connection, Io};
use crate::http::{Refusal, respond};
use crate::record;
use crate::worker::Worker;
use body::{Pace, ResponseBody};
use futures_util::future::LocalBoxFuture;
use head::HeadLimits;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use io::{Counted, Guarded};
use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use stream::{Progress, StreamExecutor, Streams};
use tokio::time::Instant;

/// Resets of requests that nothing has looked at yet, which `h2` keeps. Our own budget for resets is reached before.
const MAX_PENDING_RESETS: usize = 256;
/// How long a client that was told to go away may take to acknowledge that it has no request under way.
const GOING_AWAY: Duration = Duration::from_secs(3);

/// Serves a connection until it ends: closed by the client, idle, drained, or over a budget.
pub(crate) async fn serve<I: Io + 'static>(worker: &Rc<Worker>, connection: Rc<Connection>, io: I) {
    let counted = Rc::new(RefCell::new(Counted::new(io, worker.options.http2.max_header_list_size)));
    let streams = Streams::new(worker.clone());
    let exceeded = drive(worker, &connection, &counted, &streams).await;
    streams.end();
    let Some(budget) = exceeded else { return };
    worker.connections.http2_budget_exceeded(worker.shard(), budget);
    tracing::debug!(
        gateway = %connection.gateway(),
        client = %connection.peer,
        budget = budget.as_str(),
        "HTTP/2 connection ended: the client exceeded a budget"
    );
    if budget != Budget::WriteStalled {
        io::end(counted).await;
    }
}

/// Runs hyper's side until its end, or until a budget is exceeded.
async fn drive<I: Io + 'static>(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    counted: &Rc<RefCell<Counted<I>>>,
    streams: &Rc<Streams>,
) -> Option<Budget> {
    let timeouts = &worker.options.timeouts;
    let header_timeout = timeouts.request_headers;
    let service = Http2Service { worker: worker.clone(), connection: connection.clone(), streams: streams.clone() };
    let io = TokioIo::new(Guarded(counted.clone()));
    let mut served = pin!(builder(worker, streams).serve_connection(io, service));
    let mut draining = pin!(connection.drain.draining());
    let mut going_away: Option<Instant> = None;
    let mut is_draining = false;
    let tick = timeouts.idle.min(timeouts.write_stall).min(header_timeout) / 4;
    let mut ticks = tokio::time::interval(tick.max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            biased;
            _ = served.as_mut() => return counted.borrow().exceeded(header_timeout, timeouts.write_stall),
            () = draining.as_mut(), if !is_draining => {
                is_draining = true;
                served.as_mut().graceful_shutdown();
            }
            () = streams.idle(), if is_draining && going_away.is_none() => going_away = Some(Instant::now()),
            _ = ticks.tick() => {
                let exceeded = counted.borrow().exceeded(header_timeout, timeouts.write_stall);
                if exceeded.is_some() {
                    return exceeded;
                }
                for _ in 0..streams.end_stalled(timeouts.write_stall) {
                    worker.connections.http2_budget_exceeded(worker.shard(), Budget::StreamStalled);
                }
                let idle_since = streams.idle_since();
                if idle_since.is_none() {
                    going_away = None;
                } else if going_away.is_some_and(|since| since.elapsed() >= GOING_AWAY) {
                    return None;
                } else if going_away.is_none() && idle_since.is_some_and(|since| is_draining || since.elapsed() >= timeouts.idle) {
                    going_away = Some(Instant::now());
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn builder(worker: &Worker, streams: &Rc<Streams>) -> http2::Builder<StreamExecutor> {
    let options = &worker.options.http2;
    let mut builder = http2::Builder::new(StreamExecutor(streams.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(options.max_header_list_size)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .max_send_buf_size(options.max_send_buffer)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout);
    builder
}

/// The requests of a connection.
struct Http2Service {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    streams: Rc<Streams>,
}

impl hyper::service::Service<Request<Incoming>> for Http2Service {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let progress = self.streams.begin();
        let (worker, connection) = (self.worker.clone(), self.connection.clone());
        Box::pin(async move { Ok(answer(&worker, &connection, request, progress).await) })
    }
}

async fn answer(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    request: Request<Incoming>,
    progress: Rc<Progress>,
) -> Response<ResponseBody> {
    let http1 = &worker.options.http1;
    let limits = HeadLimits { fields: worker.options.http2.max_fields, underscores: http1.underscores };
    let (mut parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let response = match head::check(&mut parts, has_body, connection.tls.is_some(), limits) {
        Err(refusal) => {
            record::refused(worker, connection, Version::HTTP_2, refusal);
            refused(refusal, parts.method == Method::HEAD)
        }
        Ok(()) => {
            let body = match has_body {
                true => {
                    Body::Http2(RequestBody::new(body, Pace::new(http1.body_idle_timeout, http1.body_rate), limits))
                }
                false => Body::Empty,
            };
            respond(worker, connection, Request::from_parts(parts, body)).await.response
        }
    };
    let mut response = response;
    if response.status().is_informational() {
        // Nothing of HTTP/2 has them; what asked for one is of HTTP/1.1.
        response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
    response.map(|body| ResponseBody::new(body, progress))
}

fn refused(refusal: Refusal, is_head: bool) -> Response<Body> {
    let body = if is_head { Body::Empty } else { Body::full(format!("{refusal}\n")) };
    let mut response = Response::new(body);
    *response.status_mut() = refusal.status();
    let text = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    response
}
