//! A backend's response body on its way to the client.
//!
//! In flow frames of the backend; out flow the same frames. When the last has gone, the connection goes back to its pool and
//! the record ends. Dropped before that, the client is gone, and the request at the backend is given up.

use super::pool::{ExchangeError, Lease};
use super::request_body::Source;
use crate::body::BodyError;
use crate::http::h1::is_forbidden_trailer;
use crate::record::{Flag, Record};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// What the client is sent.
pub(crate) struct ResponseBody {
    deadline: Option<(Pin<Box<Sleep>>, Flag)>,
    source: Source,
    open: Option<Open>,
    /// Told with the next poll.
    failure: Option<ExchangeError>,
}

struct Open {
    lease: Lease,
    record: Record,
}

impl ResponseBody {
    /// The body of a response whose head has come. `deadline` ends it, with the flag that says which limit it was.
    pub(crate) fn new(lease: Lease, record: Record, source: Source, deadline: Option<(Instant, Flag)>) -> Self {
        let deadline = deadline.map(|(at, flag)| (Box::pin(tokio::time::sleep_until(at.into())), flag));
        Self { deadline, source, open: Some(Open { lease, record }), failure: None }
    }

    fn complete(&mut self) {
        let Some(Open { lease, mut record }) = self.open.take() else { return };
        record.set_request_bytes(self.source.bytes());
        lease.give_back(&record.worker().clone());
    }

    fn fail(&mut self, flag: Option<Flag>) {
        let Some(Open { lease, mut record }) = self.open.take() else { return };
        record.set_request_bytes(self.source.bytes());
        match flag {
            Some(flag) => record.flag(flag),
            None => record.flag_gone(),
        }
        drop(lease);
    }

    fn is_overdue(&mut self, context: &mut Context<'_>) -> Option<Flag> {
        let (sleep, flag) = self.deadline.as_mut()?;
        sleep.as_mut().poll(context).is_ready().then_some(*flag)
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(failure) = self.failure.take() {
            self.fail(Some(Flag::UpstreamFailure));
            return Poll::Ready(Some(Err(BodyError::Upstream(failure))));
        }
        let Some(open) = &mut self.open else { return Poll::Ready(None) };
        match open.lease.poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    remove_forbidden(trailers);
                }
                if let Some(data) = frame.data_ref() {
                    open.record.add_response_bytes(data.len() as u64);
                }
                if frame.is_trailers() || open.lease.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(failure))) => {
                // First the client gets what came before it: a client that has seen nothing of a response may ask again.
                self.failure = Some(failure);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Pending => match self.is_overdue(context) {
                Some(flag) => {
                    self.fail(Some(flag));
                    Poll::Ready(Some(Err(BodyError::Timeout)))
                }
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.lease.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or_else(|| SizeHint::with_exact(0), |open| open.lease.size_hint())
    }
}

/// Fields that frame, route or speak of a connection have no place in a trailer section (RFC 9110 section 6.5.1).
fn remove_forbidden(trailers: &mut HeaderMap) {
    let forbidden: SmallVec<[HeaderName; 2]> =
        trailers.keys().filter(|name| is_forbidden_trailer(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if http_body::Body::is_end_stream(self) {
            // Nobody asks for the end of a body that is known to have none.
            self.complete();
        } else {
            self.fail(self.failure.is_some().then_some(Flag::UpstreamFailure));
        }
    }
}
