//! A request's body, read from the connection as it is asked for.
//!
//! In: polls, from the handler or from whoever it gave the body to on the same thread. Out: frames; the connection reads no
//! more than was asked for, so a slow receiver slows the client.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::head::BodyFraming;
use super::refusal::Refusal;

/// A request's body. It holds nothing of the connection alive: when the request is over, what was not read is gone.
pub struct RequestBody {
    source: Option<Weak<dyn BodySource>>,
    request: u64,
    left: Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    Unknown,
    Nothing,
}

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is malformed, or too slow. The connection answers the client itself if the response has not begun.
    #[error("the request body was refused: {0}")]
    Refused(Refusal),
    /// The client closed the connection.
    #[error("the client closed the connection before the end of the request body")]
    ClientGone,
    /// The connection failed.
    #[error("the connection to the client failed: {0}")]
    Io(io::ErrorKind),
    /// The request is over: the response was sent, or the connection ended.
    #[error("the request is over, and the rest of its body with it")]
    Over,
}

/// The connection, as its request's body sees it.
pub(super) trait BodySource {
    /// The next piece of the body of the request of this number.
    fn poll_piece(&self, request: u64, context: &mut Context<'_>) -> Poll<Result<Piece, BodyError>>;
}

/// A piece of a body.
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl RequestBody {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self { source: None, request: 0, left: Left::Nothing }
    }

    pub(super) fn new(source: Weak<dyn BodySource>, request: u64, framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None => Self::empty(),
            BodyFraming::Length(length) => Self { source: Some(source), request, left: Left::Bytes(length) },
            BodyFraming::Chunked => Self { source: Some(source), request, left: Left::Unknown },
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        match (&self.source, self.left) {
            (_, Left::Nothing) => Poll::Ready(Ok(Piece::End)),
            (Some(source), _) => match source.upgrade() {
                Some(source) => source.poll_piece(self.request, context),
                None => Poll::Ready(Err(BodyError::Over)),
            },
            (None, _) => Poll::Ready(Ok(Piece::End)),
        }
    }

    fn finish(&mut self) {
        self.left = Left::Nothing;
        self.source = None;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = ready!(self.poll_piece(context));
        Poll::Ready(match piece {
            Ok(Piece::Data(data)) => {
                if let Left::Bytes(left) = self.left {
                    self.left = Left::Bytes(left.saturating_sub(data.len() as u64));
                }
                if self.left == Left::Bytes(0) {
                    self.finish();
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Piece::Trailers(trailers)) => {
                self.finish();
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(Piece::End) => {
                self.finish();
                None
            }
            Err(error) => {
                self.finish();
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Left::Nothing
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Bytes(length) => SizeHint::with_exact(length),
            Left::Unknown => SizeHint::new(),
            Left::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl Default for RequestBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("left", &self.left).finish_non_exhaustive()
    }
}
