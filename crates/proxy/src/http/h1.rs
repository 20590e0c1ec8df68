//! HTTP/1.1 towards clients: our own strict connection.

use crate::body::BodyError;
use bytes::Bytes;
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};

/// HTTP/1.1 towards clients.
#[derive(Clone, Debug, Default)]
pub struct Options;

/// A request's body.
pub(crate) struct RequestBody;

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(None)
    }
}
