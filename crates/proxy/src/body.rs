//! The one body type: what a client sends, what a backend answers, and what the gateway says itself.
//!
//! In flow bytes of any side; out flow frames of data and trailers, or an error that knows whose fault it is.

use crate::http::Refusal;
use crate::http::h1;
use crate::http::h2;
use crate::upstream::pool::ExchangeError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A streamed body. Nothing is buffered but what one frame holds.
#[derive(Default)]
pub(crate) enum Body {
    /// No bytes, no trailers.
    #[default]
    Empty,
    /// All of it at once; empty after it was read.
    Full(Bytes),
    /// A request's body from HTTP/1.1.
    Http1(h1::RequestBody),
    /// A request's body from HTTP/2.
    Http2(h2::RequestBody),
    /// A backend's response body, and whatever is wrapped by a filter, a limit or a recorder.
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client broke the rules of HTTP inside the body, or sent it too slowly.
    #[error("the client's body was refused: {}", .0.as_str())]
    Refused(Refusal),
    /// The client closed, or reset the stream, before the end of its body.
    #[error("the client closed before the end of its body")]
    ClientClosed,
    /// The connection to the client failed.
    #[error("the connection to the client failed: {0}")]
    ClientIo(#[source] io::Error),
    /// The backend's body failed: closed early, reset or malformed.
    #[error("the backend's body failed: {0}")]
    Upstream(#[source] ExchangeError),
    /// A time limit of the route passed.
    #[error("a time limit of the route passed")]
    Timeout,
    /// The gateway cut it: its request is over, or a drain was forced.
    #[error("cut, because its request is over")]
    Cut,
}

impl From<h1::BodyError> for BodyError {
    fn from(error: h1::BodyError) -> Self {
        match error {
            h1::BodyError::Refused(refusal) => Self::Refused(refusal),
            h1::BodyError::ClientGone => Self::ClientClosed,
            h1::BodyError::Io(kind) => Self::ClientIo(kind.into()),
            h1::BodyError::Over => Self::Cut,
        }
    }
}

impl Body {
    /// A body of these bytes.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }

    /// A body of any other kind.
    pub(crate) fn boxed(body: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self::Boxed(Box::pin(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Http1(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Self::Http2(body) => Pin::new(body).poll_frame(context),
            Self::Boxed(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
