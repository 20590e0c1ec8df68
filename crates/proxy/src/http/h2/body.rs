//! Bodies of HTTP/2: the request's, with the limits of its pace and its trailers, and the response's, watched for stalls.

use super::head::{HeadLimits, check_trailers};
use super::stream::Progress;
use crate::body::{Body, BodyError};
use crate::http::Refusal;
use crate::http::h1::BodyRate;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A request's body.
pub(crate) struct RequestBody {
    incoming: Incoming,
    pace: Pace,
    limits: HeadLimits,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, pace: Pace, limits: HeadLimits) -> Self {
        Self { incoming, pace, limits }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(context) else {
            return this.pace.poll_late(context).map(|refusal| Some(Err(BodyError::Refused(refusal))));
        };
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                this.pace.arrived(frame.data_ref().map_or(0, Bytes::len));
                let checked = frame.trailers_mut().map_or(Ok(()), |trailers| check_trailers(trailers, this.limits));
                Some(checked.map(|()| frame).map_err(BodyError::Refused))
            }
            // A reset, or the end of the connection: hyper does not tell which.
            Some(Err(_)) => Some(Err(BodyError::ClientClosed)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// How slowly a body may arrive, counted only while it is waited for.
pub(super) struct Pace {
    idle: Duration,
    rate: Option<BodyRate>,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// `idle` is the longest without a byte, `rate` the slowest in all.
    pub(super) fn new(idle: Duration, rate: Option<BodyRate>) -> Self {
        Self { idle, rate, received: 0, waited: Duration::ZERO, waiting_since: None, timer: None }
    }

    fn arrived(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Ready when what is waited for is too late.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        let slowest = self.rate.map_or(Duration::MAX, |rate| {
            let earned = Duration::from_secs(self.received / u64::from(rate.bytes_per_second.max(1)));
            rate.grace.saturating_add(earned).saturating_sub(self.waited)
        });
        let refusal = if slowest < self.idle { Refusal::BodyTooSlow } else { Refusal::BodyTimeout };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::ZERO)));
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            timer.as_mut().reset(now + self.idle.min(slowest));
        }
        timer.as_mut().poll(context).map(|()| refusal)
    }
}

/// A response's body on its way to hyper, which asks for more only when the client's window lets it.
pub(crate) struct ResponseBody {
    body: Body,
    progress: Rc<Progress>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, progress: Rc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.progress.asked();
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            this.progress.gave();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
