//! What the connection and the body of its request share: the transport, what was read ahead, what waits to be written.
//!
//! Both run on one thread and borrow it only inside a poll, never across one. While a body is unfinished, its holder is the
//! one who reads; before and after, the connection is.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body::{BodyError, BodySource, Piece};
use super::chunk::{ChunkDecoder, Decoded};
use super::head::BodyFraming;
use super::options::Options;
use super::output::Output;
use super::refusal::Refusal;
use super::timer::Timer;

/// One read of what may be the beginning of a request.
const SCRATCH_BYTES: usize = 16 * 1024;
/// One read of a body.
const BODY_READ_BYTES: usize = 32 * 1024;
/// One look at whether the client is still there; also takes the first bytes of a next request.
const WATCH_BYTES: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Bytes of a connection, counted as they are understood or written.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) received: Cell<u64>,
    pub(super) sent: Cell<u64>,
}

impl Traffic {
    pub(super) fn receive(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
    }
}

/// What the connection and its request's body share.
pub(super) struct Transport<Io> {
    pub(super) io: Io,
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) traffic: Rc<Traffic>,
    pub(super) incoming: Incoming,
    options: Rc<Options>,
}

/// The body of the current request.
pub(super) struct Incoming {
    /// Counts the requests, so that a body of an earlier one is known as such.
    request: u64,
    state: IncomingState,
    /// The client waits for 100 (Continue).
    awaits_continue: bool,
    /// A final response has begun: too late for 100.
    answered: bool,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Timer,
    /// The connection, which wants to know when the body is over.
    connection: Option<Waker>,
}

enum IncomingState {
    Done,
    Length(u64),
    Chunked(ChunkDecoder),
    Failed(BodyError),
}

impl Incoming {
    fn new(request: u64, framing: BodyFraming, awaits_continue: bool) -> Self {
        Self {
            request,
            state: match framing {
                BodyFraming::None => IncomingState::Done,
                BodyFraming::Length(length) => IncomingState::Length(length),
                BodyFraming::Chunked => IncomingState::Chunked(ChunkDecoder::default()),
            },
            awaits_continue,
            answered: false,
            received: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            timer: Timer::default(),
            connection: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, IncomingState::Done)
    }

    pub(super) fn failure(&self) -> Option<BodyError> {
        match self.state {
            IncomingState::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Bytes that are still to come, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.state {
            IncomingState::Done => Some(0),
            IncomingState::Length(left) => Some(left),
            IncomingState::Chunked(_) | IncomingState::Failed(_) => None,
        }
    }

    pub(super) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// A final response begins.
    pub(super) fn set_answered(&mut self) {
        self.answered = true;
        self.awaits_continue = false;
    }

    /// From here on only the connection reads what is left.
    pub(super) fn take_over(&mut self) {
        self.request += 1;
    }

    fn end(&mut self, state: IncomingState) {
        self.state = state;
        self.timer = Timer::default();
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.end(IncomingState::Failed(error));
        error
    }

    fn begin_waiting(&mut self, options: &Options) {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            self.timer.set(now + self.patience(options).0);
        }
    }

    fn end_waiting(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
            self.timer.clear();
        }
    }

    /// How long the next byte may take, and what it is refused with if it does not come.
    fn patience(&self, options: &Options) -> (Duration, Refusal) {
        let idle = (options.body_idle_timeout, Refusal::BodyTimeout);
        let Some(rate) = options.body_rate else {
            return idle;
        };
        let earned = Duration::from_secs(self.received / u64::from(rate.bytes_per_second.max(1)));
        let left = rate.grace.saturating_add(earned).saturating_sub(self.waited);
        if left < idle.0 { (left, Refusal::BodyTooSlow) } else { idle }
    }
}

impl<Io> Transport<Io> {
    pub(super) fn new(io: Io, options: Rc<Options>) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            output: Output::default(),
            traffic: Rc::default(),
            incoming: Incoming::new(0, BodyFraming::None, false),
            options,
        }
    }

    /// The next request's body follows in the input. Returns the request's number.
    pub(super) fn expect_body(&mut self, framing: BodyFraming, awaits_continue: bool) -> u64 {
        let request = self.incoming.request + 1;
        self.incoming = Incoming::new(request, framing, awaits_continue);
        request
    }

    /// Lets go of buffers that an idle connection doesn't need.
    pub(super) fn release(&mut self) {
        self.output.release();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Transport<Io> {
    /// Reads what is there at the beginning of a request. 0 is the end.
    pub(super) fn poll_read_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_read_scratch(&mut self.io, &mut self.input, context)
    }

    /// Ready when the exchange cannot go on: the body failed, or the client is gone.
    pub(super) fn poll_interrupted(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        match &self.incoming.state {
            IncomingState::Failed(error) => return Poll::Ready(*error),
            IncomingState::Done => {}
            _ => {
                if !self.incoming.connection.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    self.incoming.connection = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
        }
        // What is read ahead is bounded by not reading with anything there.
        while self.input.is_empty() {
            let mut bytes = [0; WATCH_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(BodyError::ClientGone),
                Ok(()) => self.input.extend_from_slice(buffer.filled()),
                Err(error) => return Poll::Ready(BodyError::Io(error.kind())),
            }
        }
        Poll::Pending
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.output.poll_flush(&mut self.io, context);
        self.traffic.sent.set(self.output.written());
        result
    }

    /// The next piece of the current body.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        loop {
            if let Some(piece) = self.decode()? {
                self.incoming.end_waiting();
                return Poll::Ready(Ok(piece));
            }
            self.send_continue(context);
            match self.poll_read_body(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.incoming.fail(BodyError::ClientGone))),
                Poll::Ready(Ok(_)) => self.incoming.end_waiting(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.incoming.fail(BodyError::Io(error.kind())))),
                Poll::Pending => {
                    self.incoming.begin_waiting(&self.options);
                    ready!(self.incoming.timer.poll_expired(context));
                    let refusal = self.incoming.patience(&self.options).1;
                    return Poll::Ready(Err(self.incoming.fail(BodyError::Refused(refusal))));
                }
            }
        }
    }

    /// Takes a piece out of what was read.
    fn decode(&mut self) -> Result<Option<Piece>, BodyError> {
        let before = self.input.len();
        let (piece, is_over) = match &mut self.incoming.state {
            IncomingState::Failed(error) => return Err(*error),
            IncomingState::Done => return Ok(Some(Piece::End)),
            IncomingState::Length(_) if self.input.is_empty() => (None, false),
            IncomingState::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(before);
                *left -= length as u64;
                (Some(Piece::Data(self.input.split_to(length).freeze())), *left == 0)
            }
            IncomingState::Chunked(decoder) => match decoder.decode(&mut self.input, &self.options) {
                Ok(Decoded::Data(data)) => (Some(Piece::Data(data)), false),
                Ok(Decoded::Trailers(trailers)) => (Some(Piece::Trailers(trailers)), true),
                Ok(Decoded::End) => (Some(Piece::End), true),
                Ok(Decoded::Incomplete) => (None, false),
                Err(refusal) => return Err(self.incoming.fail(BodyError::Refused(refusal))),
            },
        };
        self.traffic.receive(before - self.input.len());
        if let Some(Piece::Data(data)) = &piece {
            self.incoming.received += data.len() as u64;
        }
        if is_over {
            self.incoming.end(IncomingState::Done);
        }
        Ok(piece)
    }

    /// Tells a client that waits for it to send the body. What can't be written at once goes out before the response.
    fn send_continue(&mut self, context: &mut Context<'_>) {
        if std::mem::take(&mut self.incoming.awaits_continue) {
            self.output.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !self.incoming.answered && !self.output.is_empty() {
            // A failure shows itself in the next read, and in the response.
            let _ = self.poll_flush(context);
        }
    }

    fn poll_read_body(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let left = self.incoming.left().unwrap_or(u64::MAX);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BODY_READ_BYTES);
        let free = self.input.capacity() - self.input.len();
        if free < wanted.min(BODY_READ_BYTES / 4) {
            self.input.reserve(wanted);
        }
        pin!(self.io.read_buf(&mut self.input)).poll(context)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> BodySource for RefCell<Transport<Io>> {
    fn poll_piece(&self, request: u64, context: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        let mut transport = self.borrow_mut();
        if transport.incoming.request != request {
            return Poll::Ready(Err(BodyError::Over));
        }
        transport.poll_piece(context)
    }
}

/// Reads into a buffer of the thread's and appends what came, so that a connection that waits holds no buffer.
pub(crate) fn poll_read_scratch<Io: AsyncRead + Unpin>(
    io: &mut Io,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(context, &mut buffer))?;
        input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

/// What was read ahead of an upgrade, and the transport.
pub(super) fn into_parts<Io>(transport: Transport<Io>) -> (Io, Bytes) {
    (transport.io, transport.input.freeze())
}
