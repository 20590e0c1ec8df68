//! HTTP/1.1 towards backends: one connection, one request at a time.
//!
//! In flow a request's head and body; out flow the head of the response and, as it is asked for, its body. All of it happens
//! in the task of whoever asks, on the thread of its worker: between a client and a backend stands no other task, no channel
//! and no copy of the head. Only a request that is still being sent when its response begins gets a task, so that neither
//! side has to wait for the other (RFC 9112 section 9.3).
//!
//! | module | what it does |
//! |---|---|
//! | `request` | framing and bytes of the request's head |
//! | `head` | bytes → head of the response, or why not |

mod head;
mod request;

use super::connect::Stream;
use super::pool::OpenConnection;
use super::request_body::{RequestBody, SendError};
use crate::http::h1::{ChunkDecoder, Decoded, Output, Rewound, poll_read_scratch};
use bytes::{Bytes, BytesMut};
use head::ResponseFraming;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use request::RequestFraming;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::AsyncReadExt;
use tokio::task::AbortHandle;

/// One read of a body.
const BODY_READ_BYTES: usize = 32 * 1024;
/// Bytes of a request that are sent before others have their turn, such as a mirror that is given a copy of them.
const TURN_BYTES: u64 = 64 * 1024;

/// Why there is no response, or no end of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection was closed before the request, or any of its body, was touched.
    #[error("the connection was closed before the request was sent")]
    Unsent,
    /// The backend closed without a byte of a response.
    #[error("the backend closed the connection without a response")]
    Closed,
    /// The backend closed within its response.
    #[error("the backend closed the connection within its response")]
    Incomplete,
    /// The connection failed.
    #[error("the connection to the backend failed: {0}")]
    Io(#[from] io::Error),
    /// The response breaks the rules of HTTP.
    #[error("the backend's response is malformed: {0}")]
    Malformed(&'static str),
    /// The request's body could not be sent to its end.
    #[error(transparent)]
    RequestBody(#[from] SendError),
    /// The request's body is not as long as its head says.
    #[error("the request's body is not as long as its head says")]
    RequestLength,
}

/// One connection. Closed when it is dropped, whatever it is doing: a request that nobody waits for any more is not sent to
/// its end.
pub(crate) struct Connection {
    exchange: Rc<RefCell<Exchange>>,
    /// Sends what is left of a request whose response has begun.
    sender: Option<Sender>,
    open: OpenConnection,
}

/// A task that ends with its connection.
struct Sender(AbortHandle);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Exchange {
    stream: Stream,
    input: BytesMut,
    output: Output,
    sending: Sending,
    receiving: Receiving,
    keep_alive: bool,
    max_head_bytes: usize,
    /// Who waits for the response while another task sends.
    reader: Option<Waker>,
}

/// What is left of the request.
enum Sending {
    /// Nothing but what waits in the output.
    Done,
    /// Some of its body.
    Body(RequestBody, RequestFraming),
    /// Nothing more can be sent; a response may come all the same.
    Failed(Option<Error>),
}

/// What is left of the response.
enum Receiving {
    /// Its head, of which this much was searched for the end.
    Head { is_head: bool, searched: usize },
    /// So many bytes of its body.
    Length(u64),
    /// A chunked body.
    Chunked(ChunkDecoder),
    /// Everything until the backend closes.
    UntilClose,
    /// Nothing: complete, or none was asked for yet.
    Done,
    /// Nothing: it failed, or the connection is not HTTP any more.
    Over,
}

impl Connection {
    /// A connection that has carried no request yet.
    pub(super) fn new(stream: Stream, max_head_bytes: usize, open: OpenConnection) -> Self {
        let exchange = Exchange {
            stream,
            input: BytesMut::new(),
            output: Output::default(),
            sending: Sending::Done,
            receiving: Receiving::Done,
            keep_alive: true,
            max_head_bytes,
            reader: None,
        };
        Self { exchange: Rc::new(RefCell::new(exchange)), sender: None, open }
    }

    /// Whether the backend has closed an idle connection, or said something that nobody asked for.
    pub(super) fn is_closed(&self) -> bool {
        self.exchange.borrow().stream.has_come_to_read()
    }

    /// Whether another request can go on it: the last exchange is complete on both sides, and both let it live on.
    pub(super) fn is_reusable(&self) -> bool {
        let exchange = self.exchange.borrow();
        exchange.keep_alive
            && exchange.input.is_empty()
            && exchange.output.is_empty()
            && matches!((&exchange.sending, &exchange.receiving), (Sending::Done, Receiving::Done))
    }

    /// Lets go of what an idle connection does not need.
    pub(super) fn release(&self) {
        let mut exchange = self.exchange.borrow_mut();
        exchange.output.release();
        exchange.input = BytesMut::new();
        exchange.reader = None;
    }

    /// Sends a request, and waits for the head of the response.
    pub(super) async fn send(
        &mut self,
        head: &http::request::Parts,
        body: RequestBody,
    ) -> Result<http::response::Parts, Error> {
        if self.is_closed() {
            return Err(Error::Unsent);
        }
        self.exchange.borrow_mut().begin(head, body);
        let parts = poll_fn(|context| self.exchange.borrow_mut().poll_head(context)).await?;
        if matches!(self.exchange.borrow().sending, Sending::Body(..)) || !self.exchange.borrow().output.is_empty() {
            self.sender = Some(send_rest(Rc::downgrade(&self.exchange)));
        }
        Ok(parts)
    }

    /// The next frame of the response's body.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.exchange.borrow_mut().poll_frame(context)
    }

    /// Whether the response is complete.
    pub(super) fn is_end_stream(&self) -> bool {
        matches!(self.exchange.borrow().receiving, Receiving::Done)
    }

    /// How much of the response's body is left.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.exchange.borrow().receiving {
            Receiving::Length(left) => SizeHint::with_exact(left),
            Receiving::Done => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    /// The rest of the body, if all of it has come already.
    pub(super) fn take_received(&mut self) -> Option<Bytes> {
        let mut exchange = self.exchange.borrow_mut();
        let Receiving::Length(left) = exchange.receiving else { return None };
        let left = usize::try_from(left).ok().filter(|left| *left <= exchange.input.len())?;
        exchange.receiving = Receiving::Done;
        Some(exchange.input.split_to(left).freeze())
    }

    /// After a 101: the connection's bytes, and what counts it as open.
    pub(super) fn into_upgraded(self) -> Option<(Rewound<Stream>, OpenConnection)> {
        drop(self.sender);
        let exchange = Rc::try_unwrap(self.exchange).ok()?.into_inner();
        Some((Rewound::new(exchange.stream, exchange.input.freeze()), self.open))
    }
}

/// Sends what is left of a request, for as long as its connection is there.
fn send_rest(exchange: Weak<RefCell<Exchange>>) -> Sender {
    let rest = poll_fn(move |context| {
        let Some(exchange) = exchange.upgrade() else { return Poll::Ready(()) };
        let mut exchange = exchange.borrow_mut();
        let result = ready!(exchange.poll_send(context));
        if let Err(error) = result {
            exchange.sending = Sending::Failed(Some(error));
            if let Some(reader) = exchange.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(())
    });
    Sender(tokio::task::spawn_local(rest).abort_handle())
}

impl Exchange {
    fn begin(&mut self, head: &http::request::Parts, body: RequestBody) {
        let framing = RequestFraming::of(&head.headers);
        request::write_head(self.output.buffer(), head);
        self.sending = match framing {
            RequestFraming::None => Sending::Done,
            framing => Sending::Body(body, framing),
        };
        self.receiving = Receiving::Head { is_head: head.method == Method::HEAD, searched: 0 };
    }

    /// Sends, and waits for the head of a final response or of a 101.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<http::response::Parts, Error>> {
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            match error {
                // A backend may answer and close without having read everything: then its answer counts.
                Error::Io(failure) if failure.kind() != io::ErrorKind::TimedOut => {
                    self.sending = Sending::Failed(Some(Error::Io(failure)));
                    self.keep_alive = false;
                }
                error => return Poll::Ready(Err(error)),
            }
        }
        loop {
            match self.head() {
                Ok(Some(parts)) => return Poll::Ready(Ok(parts)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match ready!(poll_read_scratch(&mut self.stream, &mut self.input, context)) {
                Ok(0) if self.input.is_empty() => return Poll::Ready(Err(Error::Closed)),
                Ok(0) => return Poll::Ready(Err(Error::Incomplete)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// The head, if it has come. Informational ones are read over, except 101.
    fn head(&mut self) -> Result<Option<http::response::Parts>, Error> {
        loop {
            let Receiving::Head { is_head, searched } = &mut self.receiving else { return Ok(None) };
            let Some(end) = head::end(&self.input, searched) else {
                let is_too_large = self.input.len() > self.max_head_bytes;
                return if is_too_large { Err(Error::Malformed("its head is too large")) } else { Ok(None) };
            };
            if end > self.max_head_bytes {
                return Err(Error::Malformed("its head is too large"));
            }
            let bytes = self.input.split_to(end).freeze();
            *searched = 0;
            let parts = head::parse(&bytes)?;
            if parts.status.is_informational() && parts.status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            self.keep_alive &= head::keeps_alive(&parts);
            self.receiving = match ResponseFraming::of(&parts, *is_head)? {
                _ if parts.status == StatusCode::SWITCHING_PROTOCOLS => Receiving::Over,
                ResponseFraming::None | ResponseFraming::Length(0) => Receiving::Done,
                ResponseFraming::Length(length) => Receiving::Length(length),
                ResponseFraming::Chunked => Receiving::Chunked(ChunkDecoder::of_backend()),
                ResponseFraming::UntilClose => {
                    self.keep_alive = false;
                    Receiving::UntilClose
                }
            };
            return Ok(Some(parts));
        }
    }

    /// Sends what there is to send. Ready when nothing is left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let turn_ends = self.output.written() + TURN_BYTES;
        loop {
            let mut waits_for_body = false;
            while !self.output.is_full() && !waits_for_body {
                match &mut self.sending {
                    Sending::Done | Sending::Failed(_) => break,
                    Sending::Body(body, framing) => match Pin::new(body).poll_frame(context) {
                        Poll::Pending => waits_for_body = true,
                        Poll::Ready(frame) => {
                            let frame = frame.transpose()?;
                            if framing.write(frame, &mut self.output)? {
                                self.sending = Sending::Done;
                            }
                        }
                    },
                }
            }
            if self.output.is_empty() {
                return if waits_for_body { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            ready!(self.output.poll_flush(&mut self.stream, context))?;
            if waits_for_body {
                return Poll::Pending;
            }
            if self.output.written() >= turn_ends && matches!(self.sending, Sending::Body(..)) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(self.poll_body(context)) {
            Ok(frame) => Poll::Ready(frame.map(Ok)),
            Err(error) => {
                self.receiving = Receiving::Over;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        loop {
            if let Some(frame) = self.decode()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if matches!(self.receiving, Receiving::Done | Receiving::Over | Receiving::Head { .. }) {
                return Poll::Ready(Ok(None));
            }
            // What the request's own side did wrong ends the response, too; a backend that does not read on may still answer.
            if let Sending::Failed(error @ Some(Error::RequestBody(_) | Error::RequestLength)) = &mut self.sending
                && let Some(error) = error.take()
            {
                return Poll::Ready(Err(error));
            }
            let Poll::Ready(read) = self.poll_read_body(context) else {
                if matches!(self.sending, Sending::Body(..)) {
                    self.reader = Some(context.waker().clone());
                }
                return Poll::Pending;
            };
            match (read?, &self.receiving) {
                (0, Receiving::UntilClose) => {
                    self.receiving = Receiving::Done;
                    return Poll::Ready(Ok(None));
                }
                (0, _) => return Poll::Ready(Err(Error::Incomplete)),
                _ => {}
            }
        }
    }

    /// Takes a frame out of what was read.
    fn decode(&mut self) -> Result<Option<Frame<Bytes>>, Error> {
        match &mut self.receiving {
            Receiving::Length(_) | Receiving::UntilClose if self.input.is_empty() => Ok(None),
            Receiving::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                *left -= length as u64;
                if *left == 0 {
                    self.receiving = Receiving::Done;
                }
                Ok(Some(Frame::data(self.input.split_to(length).freeze())))
            }
            Receiving::UntilClose => Ok(Some(Frame::data(self.input.split().freeze()))),
            Receiving::Chunked(decoder) => {
                let decoded = decoder.decode(&mut self.input, head::trailer_limits());
                let decoded = decoded.map_err(|_| Error::Malformed("its chunked body is not well formed"))?;
                let frame = match decoded {
                    Decoded::Data(data) => Some(Frame::data(data)),
                    Decoded::Trailers(trailers) => Some(Frame::trailers(trailers)),
                    Decoded::End | Decoded::Incomplete => None,
                };
                if decoder.is_done() {
                    self.receiving = Receiving::Done;
                }
                Ok(frame)
            }
            Receiving::Head { .. } | Receiving::Done | Receiving::Over => Ok(None),
        }
    }

    fn poll_read_body(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = match self.receiving {
            Receiving::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).min(BODY_READ_BYTES),
            // What is read ahead of a body must not be larger than what a head may be.
            _ => BODY_READ_BYTES.min(self.max_head_bytes),
        };
        let free = self.input.capacity() - self.input.len();
        if free < wanted.min(BODY_READ_BYTES / 4) {
            self.input.reserve(wanted);
        }
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        if read.is_pending() && self.input.is_empty() {
            // A stream that says something now and then holds no buffer in between.
            self.input = BytesMut::new();
        }
        read
    }
}
