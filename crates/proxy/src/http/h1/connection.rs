//! The connection: one request after the other, from the first byte to the last.
//!
//! In: a transport, a service, a drain. Out: an [`Outcome`], and for each request the service's calls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body::{BodyError, BodySource, Piece, RequestBody};
use super::chunk;
use super::head::{BodyFraming, Head, HeadParser};
use super::options::Options;
use super::refusal::Refusal;
use super::response::{self, ConnectionField, ResponseFraming};
use super::service::{DroppedFields, Refused, Reply, RequestEnd, RequestSummary, Service};
use super::timer::Timer;
use super::transport::{self, Traffic, Transport};
use super::upgrade::{UpgradeHandler, Upgraded};

/// How a connection ended, and the transport where the caller should reset it rather than close it.
#[derive(Debug)]
pub struct Ended<Io> {
    /// How it ended.
    pub outcome: Outcome,
    /// The transport, if the connection was cut within a response: closing it normally would tell a client of HTTP/1.0 that
    /// it has all of it. Over TLS, dropping it without a close notification is enough.
    pub io: Option<Io>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client closed between two requests.
    Closed,
    /// No request came for the idle timeout, or no first byte for the header timeout.
    Idle,
    /// Closed between two requests because of the drain.
    Drained,
    /// Closed after a response, as the response said.
    Finished,
    /// Closed after a refusal.
    Refused(Refusal),
    /// The client closed within a request or a response, or the connection failed.
    ClientGone,
    /// The client stopped taking the response.
    WriteStalled,
    /// Cut within a response, whose body failed.
    ResponseFailed,
    /// The connection was upgraded, and what took it over came to its end.
    Upgraded,
}

/// Serves the requests of one connection, until it is closed.
///
/// When `drain` is ready, an idle connection closes at once (or after [`Options::idle_drain`]), a busy one after the current
/// request, with `Connection: close`. Dropping the future cuts the connection.
pub async fn serve<Io, S, D>(io: Io, options: Rc<Options>, service: &S, drain: D) -> Ended<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
    D: Future<Output = ()>,
{
    let transport = Rc::new(RefCell::new(Transport::new(io, options.clone())));
    let drain = Drain { signal: pin!(drain), began: false };
    let mut connection = Connection { transport, options, service, drain, timer: Timer::default() };
    let finish = connection.run().await;
    let transport = Rc::try_unwrap(connection.transport).ok().map(RefCell::into_inner);
    match (finish, transport) {
        (Finish::Upgrade(handler, mut report), Some(transport)) => {
            let traffic = transport.traffic.clone();
            let (io, read_ahead) = transport::into_parts(transport);
            handler(Upgraded::new(io, read_ahead, traffic)).await;
            report.end(RequestEnd::Complete);
            Ended { outcome: Outcome::Upgraded, io: None }
        }
        (Finish::Upgrade(..), None) => Ended { outcome: Outcome::Upgraded, io: None },
        (Finish::Cut(outcome), transport) => Ended { outcome, io: transport.map(|transport| transport.io) },
        (Finish::Closed(outcome), _) => Ended { outcome, io: None },
    }
}

struct Connection<'a, Io, S: Service, D> {
    transport: Rc<RefCell<Transport<Io>>>,
    options: Rc<Options>,
    service: &'a S,
    drain: Drain<'a, D>,
    timer: Timer,
}

/// How `run` ends.
enum Finish<'a, S: Service> {
    /// The transport was shut down, or the client closed it.
    Closed(Outcome),
    /// The transport must not look as if all had been said.
    Cut(Outcome),
    Upgrade(UpgradeHandler, Report<'a, S>),
}

/// What comes instead of a head.
enum NoHead {
    Refused(Refusal, Bytes),
    Closed(Outcome),
}

/// What an exchange ends with.
enum After<'a, S: Service> {
    Next,
    Finish(Finish<'a, S>),
}

/// What waiting for a reply ends with.
enum Waited<B> {
    Reply(Reply<B>),
    Interrupted(BodyError),
}

/// What an exchange must know of its request.
#[derive(Debug, Clone, Copy)]
struct Facts {
    is_head: bool,
    version: Version,
    keep_alive: bool,
    upgrade: bool,
}

impl<'a, Io, S, D> Connection<'a, Io, S, D>
where
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
    D: Future<Output = ()>,
{
    async fn run(&mut self) -> Finish<'a, S> {
        let mut is_first = true;
        loop {
            let head = match self.head(is_first).await {
                Ok(head) => head,
                Err(NoHead::Refused(refusal, received)) => return self.refuse(refusal, &received).await,
                Err(NoHead::Closed(outcome)) => {
                    self.shutdown().await;
                    return Finish::Closed(outcome);
                }
            };
            is_first = false;
            // On the heap, so that an idle connection is as small as it can be.
            match Box::pin(self.exchange(head)).await {
                After::Next => {}
                After::Finish(finish) => return finish,
            }
        }
    }

    /// The next request's head.
    async fn head(&mut self, is_first: bool) -> Result<Head, NoHead> {
        let mut parser = HeadParser::default();
        let mut has_begun = false;
        self.transport.borrow_mut().release();
        self.timer.set(Instant::now() + if is_first { self.options.header_timeout } else { self.options.idle_timeout });
        loop {
            let parsed = parser.parse(&mut self.transport.borrow_mut().input, &self.options);
            match parsed {
                Ok(Some(head)) => {
                    self.timer.clear();
                    self.transport.borrow().traffic.receive(head.size);
                    return Ok(head);
                }
                Ok(None) => {}
                Err(refusal) => return Err(NoHead::Refused(refusal, self.received(&mut parser))),
            }
            let is_empty = self.transport.borrow().input.is_empty();
            if !is_empty && !has_begun {
                has_begun = true;
                self.timer.set(Instant::now() + self.options.header_timeout);
            }
            match poll_fn(|context| self.poll_more(has_begun, context)).await {
                Ok(()) => {}
                Err(Outcome::Idle) if has_begun => {
                    return Err(NoHead::Refused(Refusal::HeaderTimeout, self.received(&mut parser)));
                }
                Err(outcome) => return Err(NoHead::Closed(outcome)),
            }
        }
    }

    fn received(&self, parser: &mut HeadParser) -> Bytes {
        let transport = self.transport.borrow();
        let received = parser.take_refused().unwrap_or_else(|| Bytes::copy_from_slice(&transport.input));
        transport.traffic.receive(received.len());
        received
    }

    /// Waits for more of a head, or for a reason to stop waiting.
    fn poll_more(&mut self, has_begun: bool, context: &mut Context<'_>) -> Poll<Result<(), Outcome>> {
        match self.transport.borrow_mut().poll_read_head(context) {
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(if has_begun { Outcome::ClientGone } else { Outcome::Closed }));
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Outcome::ClientGone)),
            Poll::Pending => {}
        }
        if !has_begun && self.drain.begins(context) {
            if self.options.idle_drain.is_zero() {
                return Poll::Ready(Err(Outcome::Drained));
            }
            self.timer.set(Instant::now() + self.options.idle_drain);
        }
        ready!(self.timer.poll_expired(context));
        Poll::Ready(Err(if self.drain.began && !has_begun { Outcome::Drained } else { Outcome::Idle }))
    }

    /// One request and its response.
    async fn exchange(&mut self, head: Head) -> After<'a, S> {
        let mut report = Report::new(self.service, self.transport.borrow().traffic.clone(), head.size);
        let facts = Facts {
            is_head: head.method == Method::HEAD,
            version: head.version,
            keep_alive: head.keep_alive,
            upgrade: head.upgrade,
        };
        let request = self.request(head);
        let waited = {
            let mut call = pin!(self.service.call(request));
            poll_fn(|context| match call.as_mut().poll(context) {
                Poll::Ready(reply) => Poll::Ready(Waited::Reply(reply)),
                Poll::Pending => self.transport.borrow_mut().poll_interrupted(context).map(Waited::Interrupted),
            })
            .await
        };
        let failure = self.transport.borrow().incoming.failure();
        match (waited, failure) {
            (Waited::Interrupted(error), _) | (_, Some(error)) => self.interrupted(error, report).await,
            (Waited::Reply(reply), None) => self.respond(facts, reply, &mut report).await.unwrap_or_else(|handler| {
                report.status(StatusCode::SWITCHING_PROTOCOLS);
                After::Finish(Finish::Upgrade(handler, report))
            }),
        }
    }

    fn request(&mut self, head: Head) -> Request<RequestBody> {
        let number = self.transport.borrow_mut().expect_body(head.body, head.expect_continue);
        let body = match head.body {
            BodyFraming::None => RequestBody::empty(),
            framing => {
                let source: Weak<RefCell<Transport<Io>>> = Rc::downgrade(&self.transport);
                let source: Weak<dyn BodySource> = source;
                RequestBody::new(source, number, framing)
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        if head.dropped_fields > 0 {
            request.extensions_mut().insert(DroppedFields(head.dropped_fields));
        }
        request
    }

    /// The request ended before there was a response to it.
    async fn interrupted(&mut self, error: BodyError, mut report: Report<'a, S>) -> After<'a, S> {
        let BodyError::Refused(refusal) = error else {
            report.end(RequestEnd::ClientGone);
            return After::Finish(Finish::Cut(Outcome::ClientGone));
        };
        self.answer(refusal.status(), refusal.as_str(), true);
        report.status(refusal.status());
        let flushed = self.flush().await;
        report.end(RequestEnd::Refused(refusal));
        if flushed.is_ok() {
            self.linger().await;
        }
        After::Finish(Finish::Closed(Outcome::Refused(refusal)))
    }

    /// Writes a response. An error is the handler of an upgrade, whose head was written.
    async fn respond(
        &mut self,
        facts: Facts,
        reply: Reply<S::Body>,
        report: &mut Report<'a, S>,
    ) -> Result<After<'a, S>, UpgradeHandler> {
        let Reply { response, upgrade } = reply;
        let (parts, body) = response.into_parts();
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(handler), true) = (parts.status, upgrade, facts.upgrade) {
            return match self.switch_protocols(&parts.headers).await {
                Ok(()) => Err(handler),
                Err(end) => Ok(After::Finish(self.cut(end, report))),
            };
        }
        let size = if body.is_end_stream() { http_body::SizeHint::with_exact(0) } else { body.size_hint() };
        let framing = match response::framing(facts.is_head, facts.version, parts.status, &parts.headers, size) {
            Ok(framing) if !parts.status.is_informational() => framing,
            _ => return Ok(self.invalid_response(facts, report).await),
        };
        let close = self.must_close(facts, framing).await;
        report.status(parts.status);
        self.begin_response(&parts.status, &parts.headers, facts, framing, close);
        let written = match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => {
                drop(body);
                self.flush().await
            }
            framing => self.stream(body, framing).await,
        };
        Ok(match written {
            Ok(()) => self.finish(close, RequestEnd::Complete, report).await,
            Err(end) => After::Finish(self.cut(end, report)),
        })
    }

    async fn switch_protocols(&mut self, headers: &HeaderMap) -> Result<(), RequestEnd> {
        {
            let mut transport = self.transport.borrow_mut();
            transport.incoming.set_answered();
            let (status, framing) = (StatusCode::SWITCHING_PROTOCOLS, ResponseFraming::None);
            let out = transport.output.buffer();
            let mut headers = headers.clone();
            headers.remove(header::CONTENT_LENGTH);
            response::write_head(out, status, &headers, framing, ConnectionField::Upgrade);
        }
        self.flush().await
    }

    /// A response that would mislead the client is a 502 instead.
    async fn invalid_response(&mut self, facts: Facts, report: &mut Report<'a, S>) -> After<'a, S> {
        let close = self.must_close(facts, ResponseFraming::Length(0)).await || facts.is_head;
        self.answer(StatusCode::BAD_GATEWAY, "invalid_response", close);
        report.status(StatusCode::BAD_GATEWAY);
        match self.flush().await {
            Ok(()) => self.finish(close, RequestEnd::InvalidResponse, report).await,
            Err(end) => After::Finish(self.cut(end, report)),
        }
    }

    /// Whether the connection ends with this response, as far as that is known before it is written.
    async fn must_close(&mut self, facts: Facts, framing: ResponseFraming) -> bool {
        let drain = &mut self.drain;
        poll_fn(|context| {
            drain.begins(context);
            Poll::Ready(())
        })
        .await;
        let transport = self.transport.borrow();
        let incoming = &transport.incoming;
        let left = incoming.left().unwrap_or_default();
        !facts.keep_alive
            || self.drain.began
            || framing == ResponseFraming::UntilClose
            || (incoming.awaits_continue() && !incoming.is_done())
            || left.saturating_sub(transport.input.len() as u64) > self.options.max_discard_bytes
            // What a client sent ahead of an upgrade that it did not get was never meant as HTTP.
            || (facts.upgrade && !transport.input.is_empty())
    }

    fn begin_response(
        &mut self,
        status: &StatusCode,
        headers: &HeaderMap,
        facts: Facts,
        framing: ResponseFraming,
        close: bool,
    ) {
        let connection = match (close, facts.version) {
            (true, _) => ConnectionField::Close,
            (false, Version::HTTP_10) => ConnectionField::KeepAlive,
            (false, _) => ConnectionField::Absent,
        };
        let mut transport = self.transport.borrow_mut();
        transport.incoming.set_answered();
        response::write_head(transport.output.buffer(), *status, headers, framing, connection);
    }

    /// Puts a response of our own into the output: a few words of plain text.
    fn answer(&mut self, status: StatusCode, reason: &str, close: bool) {
        let mut text = BytesMut::new();
        text.put_slice(status.as_str().as_bytes());
        text.put_slice(b" ");
        text.put_slice(reason.as_bytes());
        text.put_slice(b"\n");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let connection = if close { ConnectionField::Close } else { ConnectionField::Absent };
        let framing = ResponseFraming::Length(text.len() as u64);
        let mut transport = self.transport.borrow_mut();
        transport.incoming.set_answered();
        response::write_head(transport.output.buffer(), status, &headers, framing, connection);
        transport.output.push(text.freeze(), false);
    }

    /// Writes a body to its end.
    async fn stream(&mut self, body: S::Body, framing: ResponseFraming) -> Result<(), RequestEnd> {
        let mut body = pin!(body);
        let mut left = match framing {
            ResponseFraming::Length(length) => Some(length),
            _ => None,
        };
        let is_chunked = framing == ResponseFraming::Chunked;
        let mut trailers = None;
        while left != Some(0) {
            let frame = poll_fn(|context| self.poll_response_frame(body.as_mut(), context)).await?;
            let Some(frame) = frame else {
                break;
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Some(left) = &mut left {
                        *left = left.checked_sub(data.len() as u64).ok_or(RequestEnd::ResponseFailed)?;
                    }
                    self.transport.borrow_mut().output.push(data, is_chunked);
                }
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    break;
                }
            }
        }
        if left.is_some_and(|left| left > 0) {
            return Err(RequestEnd::ResponseFailed);
        }
        if is_chunked {
            if self.transport.borrow().output.is_full() {
                self.flush().await?;
            }
            chunk::write_end(self.transport.borrow_mut().output.buffer(), trailers.as_ref());
        }
        self.flush().await
    }

    /// The next frame of the response's body. While there is none, what was gathered is written and the client watched.
    fn poll_response_frame(
        &mut self,
        body: Pin<&mut S::Body>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<http_body::Frame<Bytes>>, RequestEnd>> {
        if self.transport.borrow().output.is_full() && self.poll_flush(context)?.is_pending() {
            return self.poll_interrupted(context).map(Err);
        }
        match body.poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(RequestEnd::ResponseFailed)),
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Pending => {
                let _ = self.poll_flush(context)?;
                self.poll_interrupted(context).map(Err)
            }
        }
    }

    fn poll_interrupted(&mut self, context: &mut Context<'_>) -> Poll<RequestEnd> {
        self.transport.borrow_mut().poll_interrupted(context).map(|error| match error {
            BodyError::Refused(refusal) => RequestEnd::Refused(refusal),
            _ => RequestEnd::ClientGone,
        })
    }

    async fn flush(&mut self) -> Result<(), RequestEnd> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Writes what waits; an error if the client takes nothing of it for too long.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), RequestEnd>> {
        let mut transport = self.transport.borrow_mut();
        let before = transport.output.written();
        match transport.poll_flush(context) {
            Poll::Ready(Ok(())) => {
                self.timer.clear();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(RequestEnd::ClientGone)),
            Poll::Pending => {
                if transport.output.written() != before || !self.timer.is_set() {
                    self.timer.set(Instant::now() + self.options.write_stall_timeout);
                }
                self.timer.poll_expired(context).map(|()| Err(RequestEnd::WriteStalled))
            }
        }
    }

    /// The response was written: what becomes of the connection.
    async fn finish(&mut self, close: bool, end: RequestEnd, report: &mut Report<'a, S>) -> After<'a, S> {
        report.end(end);
        self.transport.borrow_mut().incoming.take_over();
        if !close && self.discard().await {
            return After::Next;
        }
        let is_clean = {
            let transport = self.transport.borrow();
            transport.incoming.is_done() && transport.input.is_empty()
        };
        if is_clean {
            self.shutdown().await
        } else {
            self.linger().await
        }
        After::Finish(Finish::Closed(Outcome::Finished))
    }

    fn cut(&mut self, end: RequestEnd, report: &mut Report<'a, S>) -> Finish<'a, S> {
        report.end(end);
        Finish::Cut(match end {
            RequestEnd::Refused(refusal) => Outcome::Refused(refusal),
            RequestEnd::WriteStalled => Outcome::WriteStalled,
            RequestEnd::ResponseFailed => Outcome::ResponseFailed,
            _ => Outcome::ClientGone,
        })
    }

    /// Reads what is left of a body that nobody wants. Whether the next request may follow.
    async fn discard(&mut self) -> bool {
        if self.transport.borrow().incoming.is_done() {
            return true;
        }
        self.timer.set(Instant::now() + self.options.linger);
        let mut left = self.options.max_discard_bytes;
        loop {
            let piece = poll_fn(|context| match self.transport.borrow_mut().poll_piece(context) {
                Poll::Pending => self.timer.poll_expired(context).map(|()| None),
                ready => ready.map(Result::ok),
            });
            match piece.await {
                Some(Piece::Data(data)) if (data.len() as u64) <= left => left -= data.len() as u64,
                Some(Piece::End | Piece::Trailers(_)) => break,
                Some(Piece::Data(_)) | None => return false,
            }
            if self.transport.borrow().incoming.is_done() {
                break;
            }
        }
        self.timer.clear();
        true
    }

    /// Answers a head that was refused, and closes.
    async fn refuse(&mut self, refusal: Refusal, received: &[u8]) -> Finish<'a, S> {
        self.timer.clear();
        self.service.refused(&Refused { refusal, received });
        self.answer(refusal.status(), refusal.as_str(), true);
        if self.flush().await.is_ok() {
            self.linger().await;
        }
        Finish::Closed(Outcome::Refused(refusal))
    }

    /// Says that nothing more will be written. Nothing waits for long for a client that doesn't hear it.
    async fn shutdown(&mut self) {
        self.timer.set(Instant::now() + self.options.linger.min(Duration::from_secs(1)));
        poll_fn(|context| {
            let mut transport = self.transport.borrow_mut();
            let shut = Pin::new(&mut transport.io).poll_shutdown(context).map(|_| ());
            if shut.is_ready() { shut } else { self.timer.poll_expired(context) }
        })
        .await;
    }

    /// Closes our side, and reads for a while what the client still sends, uninterpreted: closing with bytes unread would
    /// reset the connection, and the client would lose the answer (RFC 9112 section 9.6).
    async fn linger(&mut self) {
        const MAX_BYTES: usize = 1024 * 1024;
        self.transport.borrow_mut().input = BytesMut::new();
        self.shutdown().await;
        self.timer.set(Instant::now() + self.options.linger);
        let mut left = MAX_BYTES;
        while left > 0 {
            let received = poll_fn(|context| match self.poll_skip(context) {
                Poll::Pending => self.timer.poll_expired(context).map(|()| Ok(0)),
                ready => ready,
            });
            match received.await {
                Ok(0) | Err(_) => return,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
    }

    fn poll_skip(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.transport.borrow_mut().io).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// The drain, asked only until it began.
struct Drain<'a, D> {
    signal: Pin<&'a mut D>,
    began: bool,
}

impl<D: Future<Output = ()>> Drain<'_, D> {
    /// Whether it begins now, for the first time.
    fn begins(&mut self, context: &mut Context<'_>) -> bool {
        if self.began {
            return false;
        }
        self.began = self.signal.as_mut().poll(context).is_ready();
        self.began
    }
}

/// Sees to it that the service hears of each request's end once, also when everything is dropped.
struct Report<'a, S: Service> {
    service: &'a S,
    traffic: Rc<Traffic>,
    received_before: u64,
    sent_before: u64,
    status: Option<StatusCode>,
    is_done: bool,
}

impl<'a, S: Service> Report<'a, S> {
    fn new(service: &'a S, traffic: Rc<Traffic>, head: usize) -> Self {
        let received_before = traffic.received.get().saturating_sub(head as u64);
        let sent_before = traffic.sent.get();
        Self { service, traffic, received_before, sent_before, status: None, is_done: false }
    }

    fn status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    fn end(&mut self, end: RequestEnd) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        self.service.completed(&RequestSummary {
            status: self.status,
            received: self.traffic.received.get() - self.received_before,
            sent: self.traffic.sent.get() - self.sent_before,
            end,
        });
    }
}

impl<S: Service> Drop for Report<'_, S> {
    fn drop(&mut self) {
        self.end(RequestEnd::Cut);
    }
}
